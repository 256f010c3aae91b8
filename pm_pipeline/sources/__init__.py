"""Where data comes from: one package per venue, over one shared HTTP transport."""
