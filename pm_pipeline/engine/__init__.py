"""The simulation: orders against recorded markets, fees, settlement, and an exact ledger."""
