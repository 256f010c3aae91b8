"""Polymarket: Gamma, CLOB and Data API v2."""
