"""Kalshi: catalog, candlesticks, trades, order books (REST and WebSocket), results."""

from pm_pipeline.sources.kalshi.adapter import BookFeed, KalshiAdapter

__all__ = ["BookFeed", "KalshiAdapter"]
