"""Signals, fills, metrics and portfolios of every registered strategy."""
