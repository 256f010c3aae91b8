"""A curve as small as a word: SVG in a data URI, shown inline where Markdown is.

Long data URIs are hidden behind a link by the Dagster UI, so the whole image stays below one kilobyte.
"""

from base64 import b64encode
from collections.abc import Sequence
from typing import Final

import numpy as np

from pm_pipeline.reports.downsample import kept

LARGEST: Final = 1024
"""Bytes that the Markdown of a sparkline may have."""

_WIDTH: Final = 120
_HEIGHT: Final = 24
_POINTS: Final = 60
_RISES: Final = "#2a9d77"
_FALLS: Final = "#d1495b"


def svg(values: Sequence[float]) -> str:
    """The curve as an SVG image, green where it ends above its start and red where below.

    Missing values are left out; with fewer than two values the image is empty.
    """
    curve = np.asarray(values, dtype=np.float64)
    curve = curve[np.isfinite(curve)]
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{_HEIGHT}' "
        f"viewBox='0 0 {_WIDTH} {_HEIGHT}'>"
    )
    if curve.size < 2:
        return head + "</svg>"
    at = kept(curve, _POINTS)
    spread = float(np.ptp(curve))
    high = (curve[at] - curve.min()) / spread if spread else np.full(at.size, 0.5)
    x = np.rint(1 + at / (curve.size - 1) * (_WIDTH - 2)).astype(int)
    y = np.rint(_HEIGHT - 2 - high * (_HEIGHT - 4)).astype(int)
    points = " ".join(f"{a},{b}" for a, b in dict.fromkeys(zip(x.tolist(), y.tolist(), strict=True)))
    colour = _RISES if curve[-1] >= curve[0] else _FALLS
    return f"{head}<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.5'/></svg>"


def sparkline(values: Sequence[float], label: str = "equity") -> str:
    """The curve as a Markdown image of less than 1 KB, for the metadata of a materialisation."""
    data = b64encode(svg(values).encode("ascii")).decode("ascii")
    plain = "".join(c for c in label if c.isalnum() or c in " -_")[:40]
    return f"![{plain}](data:image/svg+xml;base64,{data})"
