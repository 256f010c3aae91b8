"""A compiled strategy: one function that is asked at every event of a market, without leaving machine code.

The loop goes on until the function wants something; only then Python is asked to send it. What it sees and
what it may want are records, so that any function of the same form can be passed.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, TypeAlias

import numba
import numpy as np
import numpy.typing as npt
from numba import types

from pm_pipeline.engine.kernel.book import best_ask, best_bid
from pm_pipeline.engine.kernel.cache import entry, step_folder
from pm_pipeline.warehouse.records import Ints

Floats: TypeAlias = npt.NDArray[np.float64]

NONE: Final = -1
"""Stands for "nothing" in the fields of a wish."""


class Want(IntEnum):
    """What a wish asks for; the same as the actions of a signal."""

    ENTER = 0
    EXIT = 1
    QUOTE = 2
    CANCEL = 3
    SPLIT = 4
    MERGE = 5


def _record(ints: str, floats: str = "") -> np.dtype[np.void]:
    return np.dtype([(name, "i8") for name in ints.split()] + [(name, "f8") for name in floats.split()])


SEEN: Final = _record("now what outcome known mid bid ask bid_size ask_size price size side held_0 held_1")
"""What a step sees: the event (``feed.What``: 3 book, 4 trade, 5 price), the last quote and trade, and what
is held as far as it was told. Prices and sizes in millionths, -1 where there is none."""

WISH: Final = _record(
    "want outcome limit stake stop target trailing exit_at all_or_none name sells size takes expires_at",
    "p_hat p_se",
)
"""What a step wants, see ``signals.Signal``; -1 for none. ``name`` is a number of its own choice, ``takes``
lets a quote take."""

MOST_WISHES: Final = 16
"""How many wishes one event may raise."""

_SIGNATURE: Final[Any] = types.int64(
    types.Array(numba.from_dtype(SEEN), 1, "C"),
    types.Array(types.int64, 1, "C"),
    types.Array(types.int64, 1, "C"),
    types.Array(types.float64, 1, "C"),
    types.Array(types.float64, 1, "C"),
    types.Array(numba.from_dtype(WISH), 1, "C"),
)


class Step:
    """A function ``(seen, book, prices, params, memory, wishes) -> how many wishes``.

    ``book`` holds the displayed size of each level, bids at even places and offers at odd ones, ``prices``
    what the levels cost. ``memory`` is the strategy's own and starts as zeros.
    """

    @classmethod
    def numba_type(cls) -> Any:
        """The one form that the loop takes."""
        return types.FunctionType(_SIGNATURE)


class SeenArray:
    """Records of :data:`SEEN`."""

    @classmethod
    def numba_type(cls) -> Any:
        """The type for compiled code."""
        return types.Array(numba.from_dtype(SEEN), 1, "C")


class WishArray:
    """Records of :data:`WISH`."""

    @classmethod
    def numba_type(cls) -> Any:
        """The type for compiled code."""
        return types.Array(numba.from_dtype(WISH), 1, "C")


def compiled_step(function: Callable[..., int]) -> Any:
    """Decorator: compile a step, and keep the machine code beside that of the kernel."""
    settings: Any = numba.config
    compiler: Any = numba.njit
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(step_folder(function))
    try:
        return compiler([_SIGNATURE], cache=True, nogil=True)(function)
    finally:
        settings.CACHE_DIR = before


_LEVEL = 0
_RESET = 1
_GAP = 2
_BOOK = 3
_TRADE = 4


@entry
def go_on(
    step: Step,
    at: Ints,
    what: Ints,
    outcome: Ints,
    a: Ints,
    b: Ints,
    c: Ints,
    row: int,
    until: int,
    book: Ints,
    prices: Ints,
    seen: SeenArray,
    params: Floats,
    memory: Floats,
    wishes: WishArray,
    wanted: Ints,
) -> int:
    """Go on from ``row`` while rows are known before ``until`` and nothing is wanted.

    Returns the next row; ``wanted[0]`` is how many wishes the row before it raised.
    """
    s: Any = seen[0]  # type: ignore[index]
    levels = len(prices)
    wanted[0] = 0
    while row < len(at) and at[row] < until:
        kind = what[row]
        if kind == _LEVEL:
            if s["known"]:
                book[a[row]] = b[row]
            row += 1
            continue
        if kind in (_RESET, _GAP):
            book[:] = 0
            s["known"] = kind == _RESET
            row += 1
            continue
        s["now"], s["what"], s["outcome"] = at[row], kind, outcome[row]
        if kind == _BOOK:
            bid, ask = best_bid(book, levels), best_ask(book, levels)
            shown = s["known"] != 0 and bid < ask
            s["bid_size"] = book[2 * bid] if shown and bid >= 0 else -1
            s["ask_size"] = book[2 * ask + 1] if shown and ask < levels else -1
        elif kind == _TRADE:
            s["price"], s["size"], s["side"] = a[row], b[row], c[row]
        else:
            s["mid"], s["bid"], s["ask"] = a[row], b[row], c[row]
        row += 1
        wanted[0] = step(seen, book, prices, params, memory, wishes)  # type: ignore[operator]
        if wanted[0] > 0:
            return row
    return row
