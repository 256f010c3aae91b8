"""Statistics of results: pure functions with a stated policy for what is undefined."""
