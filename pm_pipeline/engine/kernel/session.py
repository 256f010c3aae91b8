"""A market that takes our orders: the compiled kernel under a small Python face.

Commands are given in the order in which they were decided; :meth:`Session.advance` plays events and orders up
to a moment, in every lane. One session serves one market and one thread.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from pm_pipeline.engine.fees import FillLeg, Liquidity
from pm_pipeline.engine.kernel.book import book_of
from pm_pipeline.engine.kernel.cache import compile_entry, entry
from pm_pipeline.engine.kernel.match import CHECK_PRICE, CHECK_SIZE, OUT_OF_RANGE_LEVEL, run
from pm_pipeline.engine.kernel.orders import (
    COMMAND,
    FILL,
    ORDER,
    REPORT,
    STATE,
    Code,
    CommandKind,
    Lane,
    NewOrder,
    Records,
    VenueRules,
    lane_records,
    venue_record,
)
from pm_pipeline.engine.kernel.stream import Stream
from pm_pipeline.engine.kernel.tables import Tables
from pm_pipeline.engine.kernel.taking import offered, usable
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.book import Book, Level
from pm_pipeline.markets.clock import FOREVER, Nanos
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.warehouse.records import Ints


@entry
def depth_of(
    t: Tables, lane: int, buys: bool, limit: int, at: int, found: Ints, sizes: Ints, paid: Ints
) -> int:
    """The levels open to a taker who wants everything; see ``taking.offered``."""
    return offered(t, lane, buys, limit, 1 << 62, at, found, sizes, paid)


@entry
def is_usable(t: Tables) -> bool:
    """Whether the book can be traded on, apart from its age."""
    return usable(t)


def warm(say: Callable[[str], None] | None = None) -> None:
    """Compile the kernel, or load it from the cache; ``say`` is told before anything takes seconds.

    The first session does it too; a program that wants no pause then calls this before.
    """
    for function in (run, depth_of, is_usable):
        compile_entry(function, say)


class Session:
    """Our orders in one market, in several lanes at once.

    Parameters
    ----------
    stream
        The market's events.
    rules
        What the venue asks of an order.
    lanes
        The readings of this run; all of them see every command.
    seed
        For latencies that vary.
    """

    def __init__(
        self,
        stream: Stream,
        rules: VenueRules | None = None,
        lanes: Sequence[Lane] = (Lane(),),
        *,
        seed: int = 0,
    ) -> None:
        if not lanes:
            raise UsageError("a session needs at least one lane")
        warm()
        self.stream = stream
        self.lanes = tuple(lanes)
        self._seed = seed
        self._grid = stream.grid
        count, levels = len(self.lanes), len(stream.grid)
        self._last = np.zeros(count, np.int64)
        self._t = Tables(
            ts=stream.ts,
            cell=stream.cell,
            size=stream.size,
            controls=stream.controls,
            price=np.ascontiguousarray(stream.grid.prices),
            valid=np.ascontiguousarray(stream.grid.valid),
            book=np.zeros(4 * levels, np.int64),
            taken=np.zeros((count, 2 * levels), np.int64),
            watch=np.zeros(4 * levels, np.uint8),
            scratch=np.zeros((3, levels), np.int64),
            venue=venue_record(rules or VenueRules()),
            lanes=lane_records(self.lanes),
            commands=np.zeros(16, COMMAND),
            arrival=np.zeros((count, 16), np.int64),
            orders=np.zeros((count, 16), ORDER),
            resting=np.zeros((count, 16), np.int64),
            held=np.zeros((count, 16), np.int64),
            fills=np.zeros(4 * levels + 64, FILL),
            reports=np.zeros(4 * levels + 64, REPORT),
            state=np.zeros(1, STATE),
        )
        self._t.state["last_message"] = -(2**62)
        self._submitted = 0

    # ------------------------------------------------------------------ commands

    def submit(self, order: NewOrder, decided_at: Nanos) -> int:
        """Send an order; returns its number. A bad one is refused by the venue, with a report."""
        return self.submit_all([order], np.array([decided_at], np.int64))

    def submit_all(self, orders: Sequence[NewOrder], decided_at: Ints) -> int:
        """Send many orders; returns the number of the first, the others follow it."""
        first, count = self._submitted, len(orders)
        rows = np.zeros(count, ORDER)
        rows["buys"] = [(o.side is Side.BUY) != (o.outcome == 1) for o in orders]
        rows["mirrored"] = [o.outcome for o in orders]
        rows["size"] = [o.size for o in orders]
        rows["tif"] = [o.tif for o in orders]
        rows["post_only"] = [o.post_only for o in orders]
        rows["expires_at"] = [o.expires_at for o in orders]
        rows["delay"] = [o.delay for o in orders]
        rows["checked"] = [CHECK_SIZE if o.price is None else CHECK_PRICE for o in orders]
        rows["level"] = [
            self._level(o.price, o.outcome, bool(b)) for o, b in zip(orders, rows["buys"], strict=True)
        ]
        return self._submit(rows, decided_at, first)

    def _submit(self, rows: Records, decided_at: Ints, first: int) -> int:
        count = len(rows)
        self._submitted += count
        self._grow(("orders", "resting", "held"), self._submitted)
        self._t.orders[:, first : first + count] = rows
        asked = np.zeros(count, COMMAND)
        asked["kind"], asked["order"] = CommandKind.SUBMIT, np.arange(first, first + count)
        self._send(asked, decided_at)
        return first

    def cancel(self, order: int, decided_at: Nanos) -> None:
        """Take an order back; it is alive until the command arrives."""
        self._ask(CommandKind.CANCEL, order, decided_at)

    def amend(
        self, order: int, decided_at: Nanos, *, price: Micro | None = None, size: Micro | None = None
    ) -> None:
        """Change the price (of the order's own outcome) or the whole size of a resting order."""
        record = self._known(order)
        level = -1 if price is None else self._level(price, int(record["mirrored"]), bool(record["buys"]))
        self._ask(
            CommandKind.AMEND, order, decided_at, level, price is not None, -1 if size is None else size
        )

    def _ask(
        self,
        kind: CommandKind,
        order: int,
        decided_at: Nanos,
        level: int = -1,
        checked: bool = False,
        size: Micro = -1,
    ) -> None:
        self._known(order)
        asked = np.zeros(1, COMMAND)
        asked[0] = (kind, order, level, checked, size)
        self._send(asked, np.array([decided_at], np.int64))

    def _known(self, order: int) -> Any:
        if not 0 <= order < self._submitted:
            raise UsageError(f"there is no order {order}; {self._submitted} were submitted")
        return self._t.orders[0, order]

    def _send(self, asked: Records, decided_at: Ints) -> None:
        """Commands travel over one connection: none overtakes another."""
        if len(decided_at) and int(decided_at.min()) < int(self._t.state["now"][0]):
            raise UsageError("a command was decided before the moment that the session has reached")
        first = int(self._t.state["commands"][0])
        end = first + len(asked)
        self._grow(("commands", "arrival"), end)
        self._t.commands[first:end] = asked
        numbers = np.arange(first, end)
        for lane, terms in enumerate(self.lanes):
            # the draw is by command, not by lane: lanes differ by their terms, not by their luck
            arrival = decided_at + terms.latency.draw(asked["kind"], numbers, self._seed)
            arrival = np.maximum.accumulate(np.maximum(arrival, self._last[lane]))
            self._t.arrival[lane, first:end] = arrival
            self._last[lane] = arrival[-1] if len(arrival) else self._last[lane]
        self._t.state["commands"] = end

    def _level(self, price: Micro | None, outcome: int, buys: bool) -> int:
        """The level of outcome 0's book that a price names."""
        if price is None:
            return len(self._grid) - 1 if buys else 0
        if not 0 < price < MICRO:
            return OUT_OF_RANGE_LEVEL
        return self._grid.level(MICRO - price if outcome else price)

    # ------------------------------------------------------------------ time

    def advance(self, until: Nanos = FOREVER) -> None:
        """Play events, commands and orders up to ``until``, that moment included.

        Raises :class:`UsageError` for a moment before the one reached already.
        """
        if until < int(self._t.state["now"][0]):
            raise UsageError("a session cannot go back in time; start another")
        while not run(self._t, until):
            self._grow(("fills",), 2 * len(self._t.fills))
            self._grow(("reports",), 2 * len(self._t.reports))

    def _grow(self, names: Iterable[str], needed: int) -> None:
        """Make tables longer, at least to double their length."""
        larger: dict[str, Any] = {}
        for name in names:
            old = getattr(self._t, name)
            length = old.shape[-1]
            if length < needed:
                new = np.zeros((*old.shape[:-1], max(needed, 2 * length)), old.dtype)
                new[..., :length] = old
                larger[name] = new
        if larger:
            self._t = self._t._replace(**larger)

    # ------------------------------------------------------------------ what is seen

    def book(self, at: Nanos) -> Book | None:
        """The recorded book at a moment, or ``None`` while it is lost or crossed."""
        self.advance(at)
        if not is_usable(self._t):
            return None
        row = int(self._t.state["position"][0]) - 1
        return book_of(self.cells, self._grid, int(self.stream.ts[row]))

    @property
    def cells(self) -> Ints:
        """The displayed size of each level and side now: bids at even places, offers at odd ones."""
        raw = self._t.book[: 2 * len(self._grid)]
        return np.where(raw >= 0, raw, ~raw)

    def depth(
        self, side: Side, at: Nanos, *, outcome: int = 0, limit: Micro | None = None, lane: int = 0
    ) -> tuple[Level, ...] | Code:
        """What a taker could have at a moment, best first, less what this lane took; or why nothing.

        Prices are those of the outcome. ``limit`` need not be on a tick.
        """
        self.advance(at)
        buys = (side is Side.BUY) != (outcome == 1)
        found, sizes, paid = (np.empty(len(self._grid), np.int64) for _ in range(3))
        count = depth_of(self._t, lane, buys, self._bound(limit, outcome, buys), at, found, sizes, paid)
        if count < 0:
            return Code(-count)
        prices = self._grid.prices[paid[:count]]
        prices = MICRO - prices if outcome else prices
        return tuple(map(Level, prices.tolist(), sizes[:count].tolist()))

    def take(
        self, side: Side, size: Micro, at: Nanos, *, outcome: int = 0, limit: Micro | None = None
    ) -> int:
        """Take at once, at a moment, what is there up to ``limit``, which need not be on a tick.

        No latency is added: ``at`` is the moment of arrival. For an engine that has asked :meth:`depth` what
        is there, and has held the size against the venue's rules: it is not checked again. Returns the
        order's number.
        """
        buys = (side is Side.BUY) != (outcome == 1)
        row = np.zeros(1, ORDER)
        row["buys"], row["mirrored"], row["size"], row["expires_at"] = buys, outcome, size, FOREVER
        row["level"] = self._bound(limit, outcome, buys)
        order = self._submit(row, np.array([at], np.int64), self._submitted)
        self._t.arrival[:, int(self._t.state["commands"][0]) - 1] = at
        self._last[:] = np.maximum(self._last, at)
        self.advance(at)
        return order

    def _bound(self, limit: Micro | None, outcome: int, buys: bool) -> int:
        if limit is None:
            return self._level(None, outcome, buys)
        return self._grid.within(MICRO - limit if outcome else limit, buys=buys)

    # ------------------------------------------------------------------ results

    @property
    def fills(self) -> Records:
        """All fills so far, in the order in which they happened in each lane: records of ``orders.FILL``."""
        return self._t.fills[: int(self._t.state["fills"][0])]

    @property
    def reports(self) -> Records:
        """Refusals and ends so far, records of ``orders.REPORT``; the code is one of ``orders.Code``."""
        return self._t.reports[: int(self._t.state["reports"][0])]

    @property
    def orders(self) -> Records:
        """All orders by lane and number: records of ``orders.ORDER``."""
        return self._t.orders[:, : self._submitted]

    def matches(self, order: int, lane: int = 0) -> list[list[FillLeg]]:
        """The fills of one order, match by match, as the fee models take them."""
        own = self.fills[(self.fills["lane"] == lane) & (self.fills["order"] == order)]
        record = self.orders[lane, order]
        side = Side.BUY if bool(record["buys"]) != bool(record["mirrored"]) else Side.SELL
        found: dict[int, list[FillLeg]] = {}
        for fill in own:
            liquidity = Liquidity.MAKER if fill["maker"] else Liquidity.TAKER
            leg = FillLeg(int(fill["price"]), int(fill["size"]), side, liquidity)
            found.setdefault(int(fill["match"]), []).append(leg)
        return list(found.values())
