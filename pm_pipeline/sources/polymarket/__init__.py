"""Polymarket: Gamma (catalog), CLOB (mid points, books), Data API v2 (trades, resolutions, positions)."""

from pm_pipeline.sources.polymarket.adapter import PolymarketAdapter

__all__ = ["PolymarketAdapter"]
