"""Who decides: signals written down, or a strategy that goes along with a market; and who peeks."""
