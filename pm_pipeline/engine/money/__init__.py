"""Money, to the micro-dollar: the ledger, what a fill costs, what a market pays."""
