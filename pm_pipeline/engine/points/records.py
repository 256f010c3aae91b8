"""What the compiled loops read and write: records of 64-bit numbers, and the table that holds them all.

Times are nanoseconds, money, prices and sizes millionths. -1 stands for none, a NaN for no probability.
"""

from enum import IntEnum
from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import types

from pm_pipeline.engine.kernel.orders import Records
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.risk.rules import Code as RiskCode
from pm_pipeline.engine.venue.exits import EndedBy
from pm_pipeline.warehouse.records import Ints

Prices = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]


class Refusal(IntEnum):
    """Why something was not done: the reasons of the simulation, then the codes of the risk manager."""

    NO_QUOTE = 1
    STALE_QUOTE = 2
    BOOK_GAP = 3
    PRICE_BEYOND_LIMIT = 4
    BELOW_MIN_SIZE = 5
    NO_DEPTH = 6
    INSUFFICIENT_CASH = 7
    POSITION_OPEN = 8
    NO_POSITION = 9
    CANCELLED = 10
    NOT_OPEN = 11
    MARKET_CLOSED = 12
    AFTER_RESOLUTION = 13
    NO_RULE = 14
    RISK_STALE_DATA = 20
    RISK_CROSSED_BOOK = 21
    RISK_REDUCING = 22
    RISK_DAILY_LOSS = 23
    RISK_DRAWDOWN = 24
    RISK_TOO_CLOSE_TO_CLOSE = 25
    RISK_MAX_POSITIONS = 26
    RISK_NO_BELIEF = 27
    RISK_NO_OFFER = 28
    RISK_NO_EDGE = 29
    RISK_LEAST_STAKE = 30
    RISK_POSITION_CAP = 31
    RISK_MARKET_CAP = 32
    RISK_GROUP_CAP = 33
    RISK_STRATEGY_CAP = 34
    RISK_VENUE_CAP = 35
    RISK_GROSS_CAP = 36
    RISK_BELOW_LOT = 37

    @property
    def code(self) -> str:
        """The code as ``simulate`` writes it: of ``backtest.rejections``, or ``risk_denied: `` and its
        own."""
        name = self.name.removeprefix("RISK_")
        if name in Reason.__members__:
            return str(Reason[name])
        return f"{Reason.RISK_DENIED}: {RiskCode[name]}"


CODES: Final = 40


class Fault(IntEnum):
    """What stops a run: something that this domain does not cover, or books that do not balance."""

    NONE = 0
    FEE = 1
    SIZE = 2
    BOOKS = 3


class Ended(IntEnum):
    """What ended a round trip, as :class:`~pm_pipeline.engine.venue.exits.EndedBy` has it."""

    SIGNAL = 0
    STOP = 1
    TRAILING = 2
    TARGET = 3
    TIME = 4
    SETTLEMENT = 5
    VOID = 6
    OPEN = 7

    @property
    def by(self) -> EndedBy:
        """The member that the tables write."""
        return EndedBy[self.name]


class Formula(IntEnum):
    """How a regime charges. ``NO_RULE``: no dated rule; ``UNCOVERED``: one that is not computed here."""

    CURVE = 0
    NOTIONAL = 1
    PER_CONTRACT = 2
    NO_RULE = -1
    UNCOVERED = -2


class Rounding(IntEnum):
    """How a fee is rounded."""

    FLOOR = 0
    CEIL = 1
    HALF_EVEN = 2


class Sized(IntEnum):
    """The ways of sizing that are covered."""

    FIXED = 0
    FRACTION = 1
    KELLY = 2


def _record(ints: str, floats: str = "") -> np.dtype[np.void]:
    return np.dtype([(name, "i8") for name in ints.split()] + [(name, "f8") for name in floats.split()])


MARKET: Final = _record(
    "first end opened_at closed_at paid_at void payout0 payout1 payout_step scheduled_close group venue "
    "regime regime_end"
)
REGIME: Final = _record("since fee_ends formula rate step rounding balance rebate delay lot min_size")
TERMS: Final = _record(
    "latency max_age max_wait dollars worse lot mark_mid bankroll stake max_stake sized fraction least "
    "position_cap market_cap group_cap strategy_cap venue_cap gross_cap drawdown daily_loss losing_streak "
    "max_positions max_data_age refuse_crossed min_time_to_close cooldown revalue_every looks watches "
    "has_caps ruled window stop target trailing hold curve number",
    "kelly entry exit",
)
SIGNAL: Final = _record("row at outcome enters limit stake stop target trailing exit_at", "p")
RUN: Final = _record(
    "next terms row loaded closed entry0 entry1 trip0 trip1 leaving0 leaving1 orders uses "
    "taken_ts0 taken0 taken_ts1 taken1 decision pending"
)
ORDER: Final = _record(
    "market outcome buys reason arrived_at limit later_than regime accumulator filled stake done link "
    "stop target trailing exit_at",
    "p",
)
TRIP: Final = _record(
    "market outcome entered_at size bought cost held_cost proceeds fees at_risk evidence row bid_row locked "
    "frozen ended waiting place rule quote_ts link "
    "valued_from valued_to value"
)
EVENT: Final = _record("at rank seq what tag")
FILL: Final = _record("market outcome buys at decided_by price size cash fee evidence")
TRADE: Final = _record("market outcome entered_at exited_at size cost proceeds fees ended_by payout evidence")
DECISION: Final = _record("market at row outcome enters stop target trailing exit_at", "p")
CURVE: Final = _record("ts cash positions locked open_positions")
BOUGHT: Final = _record("regime price size cash fee")
SUMS: Final = _record("trades wins pnl fees cost proceeds held_to_payout refused")
STATE: Final = _record(
    "cash reserved open_cost fees paid now seq heap orders free_order trips free_trip held fills trades "
    "decisions curve last_record begun watched is_watched valued is_valued valued_cash valued_cost "
    "valued_equity peak reference last day_ends has_day losses markets fault fault_market events moved "
    "marked marked_from marked_to"
)
LATCHES: Final = ("daily_loss", "drawdown", "losing_streak")
DAILY_LOSS, DRAWDOWN, LOSING_STREAK = range(3)


class Tables(NamedTuple):
    """All arrays of a run.

    The sizes are contracts at the quotes of outcome 0, then of outcome 1; empty where no row has one.
    ``low`` and ``high`` are the extremes of 64 rows at a time: bid, then offer; ``z_low`` and ``z_high``
    those of the z-scores. ``at_risk`` holds the running totals: of outcomes, markets, groups, venues, then of
    all. ``bought`` is what a stake buys at the rows of the market in hand, ``grid`` the settings of a sweep,
    ``sums`` what they came to.
    """

    ts: Ints
    known_at: Ints
    mid: Prices
    bid: Prices
    ask: Prices
    kind: npt.NDArray[np.uint8]
    bid_size: Ints
    ask_size: Ints
    no_bid_size: Ints
    no_ask_size: Ints
    bid_low: Prices
    bid_high: Prices
    ask_low: Prices
    ask_high: Prices
    z: Floats
    z_low: Floats
    z_high: Floats
    markets: Records
    regimes: Records
    terms: Records
    signals: Records
    signal_first: Ints
    scratch: Records
    runs: Records
    orders: Records
    trips: Records
    heap: Records
    held: Ints
    at_risk: Ints
    latches: Ints
    refused: Ints
    fills: Records
    trades: Records
    decisions: Records
    curve: Records
    bought: Records
    grid: Records
    sums: Records
    state: Records

    @classmethod
    def numba_type(cls) -> Any:
        """The one type that the loops are compiled for."""
        make: Any = types.NamedTuple
        return make([_array_type(name) for name in cls._fields], cls)


_DTYPES: Final[dict[str, Any]] = {
    "markets": MARKET,
    "regimes": REGIME,
    "terms": TERMS,
    "signals": SIGNAL,
    "scratch": SIGNAL,
    "runs": RUN,
    "orders": ORDER,
    "trips": TRIP,
    "heap": EVENT,
    "fills": FILL,
    "trades": TRADE,
    "decisions": DECISION,
    "curve": CURVE,
    "bought": BOUGHT,
    "grid": TERMS,
    "sums": SUMS,
    "state": STATE,
    **dict.fromkeys(("mid", "bid", "ask", "bid_low", "bid_high", "ask_low", "ask_high"), np.dtype("i4")),
    **dict.fromkeys(("z", "z_low", "z_high"), np.dtype("f8")),
    "kind": np.dtype("u1"),
}

BLOCK: Final = 64
"""Rows whose extremes are kept, so that a search passes over them at once."""


def dtype_of(name: str) -> np.dtype[Any]:
    """What an array of the tables holds."""
    found: np.dtype[Any] = _DTYPES.get(name, np.dtype("i8"))
    return found


def _array_type(name: str) -> Any:
    return types.Array(numba.from_dtype(dtype_of(name)), 1, "C")
