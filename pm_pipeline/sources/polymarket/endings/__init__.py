"""How markets ended, by every source that says so."""
