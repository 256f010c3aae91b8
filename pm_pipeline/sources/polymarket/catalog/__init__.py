"""Which markets Polymarket has: Gamma."""
