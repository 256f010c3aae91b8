"""One bankroll against many markets, event by event."""
