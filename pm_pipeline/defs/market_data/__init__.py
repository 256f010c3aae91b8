"""What the venues say about each market: prices, candles, trades, books, and how it ended."""
