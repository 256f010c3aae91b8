"""An embedded world that speaks the wire formats of the venues."""
