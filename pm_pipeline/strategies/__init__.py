"""Strategies: what they may see, what they may say, and the ones that come along."""
