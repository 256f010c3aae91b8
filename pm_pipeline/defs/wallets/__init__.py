"""Wallets: what they did, what they hold, who holds a market, who leads."""
