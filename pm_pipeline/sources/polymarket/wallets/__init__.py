"""What wallets did and hold, and who leads."""
