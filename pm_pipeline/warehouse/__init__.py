"""Where data lives: the lake of partition files, the DuckDB views over it, and the as-of door."""
