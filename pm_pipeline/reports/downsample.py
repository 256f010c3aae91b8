"""Fewer points of a curve without losing what a reader looks for."""

from itertools import pairwise

import numpy as np

from pm_pipeline.research.returns import Floats, Ints, deepest_drawdown


def landmarks(values: Floats) -> Ints:
    """Positions never to be dropped: both ends, both extremes, and the deepest drawdown's peak and trough."""
    if values.size == 0:
        return np.empty(0, np.int64)
    peak, trough = deepest_drawdown(values)
    found = {0, values.size - 1, int(values.argmax()), int(values.argmin()), peak, trough}
    return np.array(sorted(found), dtype=np.int64)


def kept(values: Floats, limit: int, wanted: Ints | None = None) -> Ints:
    """Positions of at most about ``limit`` points that look like all of them, sorted.

    The :func:`landmarks` are always among them, and so are the ``wanted`` positions (fills) unless they alone
    would take more than half of the limit: then every k-th of them is kept. The rest is the lowest and the
    highest point of equal stretches of the curve.
    """
    if values.size <= limit:
        return np.arange(values.size, dtype=np.int64)
    wanted = np.unique(wanted) if wanted is not None else np.empty(0, np.int64)
    room = max(limit // 2, 1)
    wanted = wanted[:: -(-wanted.size // room) or 1]
    must = np.union1d(landmarks(values), wanted)
    stretches = max((limit - must.size) // 2, 1)
    edges = np.linspace(0, values.size, stretches + 1).astype(np.int64)
    extremes = [
        start + place
        for start, end in pairwise(edges.tolist())
        for place in (values[start:end].argmin(), values[start:end].argmax())
    ]
    return np.union1d(must, np.asarray(extremes, dtype=np.int64))
