"""Which markets there are, and the rules of their venues."""
