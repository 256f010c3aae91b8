"""Colours of figures: told apart by colour-blind readers, legible on white and on near-black."""

from typing import Final

LINES: Final = ("#3b82c4", "#c8742b", "#1a9a86", "#a566b8", "#8a8a3c", "#c75b7a", "#5b76d6", "#7a6a5a")
"""One per strategy or series, at least 3:1 against both backgrounds."""

GAIN: Final = "#2a9d77"
LOSS: Final = "#d1495b"
INK: Final = "#1c2430"
MUTED: Final = "#667080"
RULE: Final = "#d9dee5"


def faint(colour: str, alpha: float) -> str:
    """A ``#rrggbb`` colour made transparent."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"
