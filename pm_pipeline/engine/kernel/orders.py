"""Orders, commands, lanes, and what the kernel says about them, as rows of fixed-width records.

The rules of filling and queueing are tables in ``docs/fills.md``.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from pm_pipeline.engine.kernel.latency import Latency
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.scenarios import Scenario, Terms
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import FOREVER, MINUTE, SECOND, Nanos
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import Micro

Records: TypeAlias = npt.NDArray[Any]
"""A structured array."""


class TimeInForce(IntEnum):
    """How long an order lives.

    ``IOC``: what cannot be had at once is dropped. ``FOK``: all at once or nothing. ``GTC``: until it is
    filled, cancelled, or trading ends. ``GTD``: the same, until a moment.
    """

    IOC = 0
    FOK = 1
    GTC = 2
    GTD = 3


class QueueMode(IntEnum):
    """Who is taken to have left when a level shrinks without a trade.

    ``RISK_AVERSE``: those behind us. ``PROPORTIONAL``: everybody in proportion. ``PROBABILISTIC``: those in
    front with a weight of their size to a power, against those behind.
    """

    RISK_AVERSE = 0
    PROPORTIONAL = 1
    PROBABILISTIC = 2


class Status(IntEnum):
    """Where an order stands. ``HELD``: the venue delays it. ``DONE``: it trades no more."""

    SENT = 0
    HELD = 1
    RESTING = 2
    DONE = 3


class Code(IntEnum):
    """Why something was not done, or an order ended; :data:`REASONS` says it in words."""

    FILLED = 0
    NO_QUOTE = 1
    STALE_QUOTE = 2
    BOOK_GAP = 3
    PRICE_BEYOND_LIMIT = 4
    NO_DEPTH = 5
    BELOW_MIN_SIZE = 6
    NOT_OPEN = 7
    MARKET_CLOSED = 8
    CANCELLED = 9
    OFF_TICK = 10
    OFF_LOT = 11
    OUT_OF_RANGE = 12
    WOULD_TAKE = 13
    NOT_ALL = 14
    EXPIRED = 15
    ORDER_GONE = 16
    SELF_CROSS = 17
    REST_DROPPED = 18


REASONS: Final[dict[Code, Reason]] = {
    Code.NO_QUOTE: Reason.NO_QUOTE,
    Code.STALE_QUOTE: Reason.STALE_QUOTE,
    Code.BOOK_GAP: Reason.BOOK_GAP,
    Code.PRICE_BEYOND_LIMIT: Reason.PRICE_BEYOND_LIMIT,
    Code.NO_DEPTH: Reason.NO_DEPTH,
    Code.BELOW_MIN_SIZE: Reason.BELOW_MIN_SIZE,
    Code.NOT_OPEN: Reason.NOT_OPEN,
    Code.MARKET_CLOSED: Reason.MARKET_CLOSED,
    Code.CANCELLED: Reason.ORDER_CANCELLED,
    Code.OFF_TICK: Reason.OFF_TICK,
    Code.OFF_LOT: Reason.OFF_LOT,
    Code.OUT_OF_RANGE: Reason.OUT_OF_RANGE,
    Code.WOULD_TAKE: Reason.WOULD_TAKE,
    Code.NOT_ALL: Reason.NOT_ALL,
    Code.EXPIRED: Reason.EXPIRED,
    Code.ORDER_GONE: Reason.ORDER_GONE,
    Code.SELF_CROSS: Reason.SELF_CROSS,
    Code.REST_DROPPED: Reason.REST_DROPPED,
}
"""Every code but ``FILLED``, which needs no reason, in words."""


class CommandKind(IntEnum):
    """What a command asks of the venue."""

    SUBMIT = 0
    CANCEL = 1
    AMEND = 2


class FillEvidence(IntEnum):
    """What a fill rests on: displayed depth, or a trade that happened."""

    L2 = 0
    TRADE = 1


def _record(ints: str, floats: str = "") -> np.dtype[np.void]:
    return np.dtype([(name, "i8") for name in ints.split()] + [(name, "f8") for name in floats.split()])


VENUE: Final = _record("min_size lot opens_at closes_at max_age pair_window")
LANE: Final = _record(
    "share_num share_den queue next_command resting held pushed_at_sell pushed_at_buy",
    "power impact half_life pushed_sell pushed_buy",
)
COMMAND: Final = _record("kind order level checked size")
ORDER: Final = _record(
    "buys mirrored level checked size tif post_only expires_at delay status code arrived_at release_at "
    "filled cash ahead shown traded traded_at dropped credit dropped_at"
)
FILL: Final = _record("lane order match at row level price size maker evidence")
REPORT: Final = _record("lane order at code size command")
STATE: Final = _record(
    "position control known snapshot watching recheck era closed last_message now commands fills reports "
    "matches resting pauses base more dry first_order first_command"
)

UNKNOWN: Final = -1
"""Stands for a queue position that nobody can know: the book is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueRules:
    """What the venue asks of an order, and how far apart two records of one event may lie.

    ``lot`` is the step of sizes. A book whose last message is older than ``max_age`` is not traded on. A
    trade and a smaller level within ``pair_window`` are taken to be one event (``docs/fills.md``).
    """

    min_size: Micro = 1
    lot: Micro = 1
    opens_at: Nanos = 0
    closes_at: Nanos = FOREVER
    max_age: Nanos = 15 * MINUTE
    pair_window: Nanos = SECOND

    def __post_init__(self) -> None:
        if self.lot <= 0 or self.min_size < 0 or self.max_age < 0 or self.pair_window < 0:
            raise UsageError(f"impossible rules of a venue: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One reading of a run. All lanes see the same events in one pass; each has its own orders.

    ``depth`` is the share of the displayed depth that a taker gets. ``impact`` is in micro-dollars per square
    root of a contract: what we took lately moves the price away from our next orders on that side, and is
    forgotten with ``half_life``. ``power`` belongs to ``PROBABILISTIC``.
    """

    latency: Latency = field(default_factory=Latency)
    depth: Fraction = Fraction(1)
    queue: QueueMode = QueueMode.PROBABILISTIC
    power: float = 2.0
    impact: float = 0.0
    half_life: Nanos = MINUTE

    def __post_init__(self) -> None:
        if not 0 < self.depth <= 1 or self.power <= 0 or self.impact < 0 or self.half_life <= 0:
            raise UsageError(f"impossible terms of a lane: {self}")


QUEUES: Final = {
    Scenario.PESSIMISTIC: QueueMode.RISK_AVERSE,
    Scenario.BASE: QueueMode.PROBABILISTIC,
    Scenario.OPTIMISTIC: QueueMode.PROPORTIONAL,
}
"""How each scenario reads a queue."""


def lane_of(terms: Terms) -> Lane:
    """The lane of a scenario: its latency, its share of the depth, its reading of the queue."""
    latency = Latency(
        submit=terms.latency,
        cancel=terms.cancel_latency,
        amend=terms.amend_latency,
        sigma=terms.config.latency_sigma,
    )
    return Lane(
        latency=latency,
        depth=terms.depth,
        queue=QUEUES[terms.scenario],
        impact=terms.config.impact,
        half_life=terms.config.impact_half_life,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """An order of one outcome of a binary market. Without ``price`` it takes any price, so it cannot rest.

    ``delay`` is how long the venue holds it before it may take. ``expires_at`` belongs to ``GTD``.
    """

    side: Side
    size: Micro
    price: Micro | None = None
    outcome: int = 0
    tif: TimeInForce = TimeInForce.IOC
    post_only: bool = False
    expires_at: Nanos = FOREVER
    delay: Nanos = 0

    def __post_init__(self) -> None:
        rests = self.tif in (TimeInForce.GTC, TimeInForce.GTD)
        if self.outcome not in (0, 1):
            raise UsageError(f"a book has outcomes 0 and 1, not {self.outcome}")
        if rests and self.price is None:
            raise UsageError(f"an order that may rest ({self.tif.name}) needs a price")
        if self.post_only and not rests:
            raise UsageError(f"post-only orders rest, so they are GTC or GTD, not {self.tif.name}")
        if (self.expires_at < FOREVER) != (self.tif is TimeInForce.GTD):
            raise UsageError("expires_at belongs to GTD orders, and they need it")


def venue_record(rules: VenueRules) -> Records:
    """The rules as the kernel reads them."""
    found = np.zeros(1, VENUE)
    for name in VENUE.names or ():
        found[name] = getattr(rules, name)
    return found


def lane_records(lanes: "tuple[Lane, ...]") -> Records:
    """The lanes as the kernel reads them, before anything has happened."""
    found = np.zeros(len(lanes), LANE)
    for record, lane in zip(found, lanes, strict=True):
        record["share_num"], record["share_den"] = lane.depth.numerator, lane.depth.denominator
        record["queue"], record["power"] = lane.queue, lane.power
        record["impact"], record["half_life"] = lane.impact, lane.half_life
    return found
