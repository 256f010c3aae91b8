"""Kalshi: REST market data and the order book channel."""
