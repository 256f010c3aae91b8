"""Asset-based backtests for prediction markets on Dagster and DuckDB."""

__version__ = "0.1.0"
