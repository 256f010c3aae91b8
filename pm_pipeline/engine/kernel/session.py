"""A market that takes our orders: the compiled kernel under a small Python face.

Commands are given in the order in which they were decided; :meth:`Session.advance` plays events and orders up
to a moment, in every lane. One session serves one market and one thread.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pm_pipeline.engine.kernel.book import book_of
from pm_pipeline.engine.kernel.cache import compile_entry, entry
from pm_pipeline.engine.kernel.match import CHECK_PRICE, CHECK_SIZE, OUT_OF_RANGE_LEVEL, run, strike
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
    Status,
    VenueRules,
    lane_records,
    venue_record,
)
from pm_pipeline.engine.kernel.reader import READS
from pm_pipeline.engine.kernel.stream import Piece, Stream, StreamSource
from pm_pipeline.engine.kernel.tables import Tables
from pm_pipeline.engine.kernel.taking import offered, short_of_own, usable
from pm_pipeline.engine.money.fees import FillLeg, Liquidity
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.book import Book, Level
from pm_pipeline.markets.clock import FOREVER, Nanos
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.warehouse.records import Ints

_SELF = int(Code.SELF_CROSS)
_BEYOND = int(Code.PRICE_BEYOND_LIMIT)
_MUTABLE = ("book", "taken", "watch", "scratch", "lanes", "orders", "resting", "held", "state")
"""What a look ahead changes besides the tables of results."""
_TOLD = ("fills", "reports")


@entry
def depth_of(
    t: Tables, lane: int, buys: bool, limit: int, at: int, found: Ints, sizes: Ints, paid: Ints
) -> int:
    """The levels open to a taker who wants everything and stops short of our own; see ``taking.offered``."""
    short = short_of_own(t, lane, buys, limit)
    count = offered(t, lane, buys, short, 1 << 62, at, found, sizes, paid)
    return -_SELF if count == -_BEYOND and short != limit else count


@entry
def is_usable(t: Tables) -> bool:
    """Whether the book can be traded on, apart from its age."""
    return usable(t)


_PLAYS = (run, strike, depth_of, is_usable)


def warm(say: Callable[[str], None] | None = None) -> None:
    """Compile the kernel, or load it from the cache; ``say`` is told before anything takes seconds.

    The first session and the first stream from the lake do their part of it too; a program that wants no
    pause then calls this before.
    """
    for function in (*_PLAYS, *READS):
        compile_entry(function, say)


class Results(NamedTuple):
    """What :meth:`Session.take_results` hands over: orders by lane, from number ``first`` on."""

    first: int
    orders: Records
    fills: Records
    reports: Records


class Session:
    """Our orders in one market, in several lanes at once.

    Parameters
    ----------
    source
        The market's events: a :class:`~pm_pipeline.engine.kernel.stream.Stream`, or one that comes in
        pieces, of which the session holds the one that it plays.
    rules
        What the venue asks of an order.
    lanes
        The readings of this run; all of them see every command.
    seed
        For latencies that vary.
    """

    def __init__(
        self,
        source: StreamSource,
        rules: VenueRules | None = None,
        lanes: Sequence[Lane] = (Lane(),),
        *,
        seed: int = 0,
    ) -> None:
        if not lanes:
            raise UsageError("a session needs at least one lane")
        for function in _PLAYS:
            compile_entry(function)
        self._piece = Piece.first(source)
        self.lanes = tuple(lanes)
        self._seed = seed
        self._grid = source.grid
        count, levels = len(self.lanes), len(self._grid)
        stream = self.stream
        self._last = np.zeros(count, np.int64)
        self._t = Tables(
            ts=stream.ts,
            cell=stream.cell,
            size=stream.size,
            controls=stream.controls,
            price=np.ascontiguousarray(self._grid.prices),
            valid=np.ascontiguousarray(self._grid.valid),
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
        self._t.state["more"] = 1
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
        self._number(rows)
        asked = np.zeros(count, COMMAND)
        asked["kind"], asked["order"] = CommandKind.SUBMIT, np.arange(first, first + count) - self._first
        self._send(asked, decided_at)
        return first

    def _number(self, rows: Records) -> int:
        """Give new orders their numbers; returns the first."""
        first = self._submitted
        self._submitted += len(rows)
        place, end = first - self._first, self._submitted - self._first
        self._grow(("orders", "resting", "held"), end)
        self._t.orders[:, place:end] = rows
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
        asked[0] = (kind, order - self._first, level, checked, size)
        self._send(asked, np.array([decided_at], np.int64))

    def _known(self, order: int) -> Any:
        if not self._first <= order < self._submitted:
            raise UsageError(
                f"there is no order {order}; {self._submitted} were submitted, {self._first} handed over"
            )
        return self._t.orders[0, order - self._first]

    @property
    def _first(self) -> int:
        """The number of the first order that is still here."""
        return int(self._t.state["first_order"][0])

    def _send(self, asked: Records, decided_at: Ints) -> None:
        """Commands travel over one connection: none overtakes another."""
        if len(decided_at) and int(decided_at.min()) < int(self._t.state["now"][0]):
            raise UsageError("a command was decided before the moment that the session has reached")
        first = int(self._t.state["commands"][0])
        end = first + len(asked)
        self._grow(("commands", "arrival"), end)
        self._t.commands[first:end] = asked
        numbers = np.arange(first, end) + self._t.state["first_command"]
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

    @property
    def arrives_at(self) -> Nanos:
        """When the last command that was sent arrives, in the first lane."""
        return int(self._last[0])

    # ------------------------------------------------------------------ time

    def advance(self, until: Nanos = FOREVER) -> None:
        """Play events, commands and orders up to ``until``, that moment included.

        Raises :class:`UsageError` for a moment before the one reached already.
        """
        if until < int(self._t.state["now"][0]):
            raise UsageError("a session cannot go back in time; start another")
        while not run(self._t, until):
            self._make_room()

    def _make_room(self) -> None:
        """Give the kernel what it stopped for: the next piece of the stream, or longer tables."""
        if self._feed():
            return
        self._grow(("fills",), 2 * len(self._t.fills))
        self._grow(("reports",), 2 * len(self._t.reports))

    def _feed(self) -> bool:
        """Take up the next piece if the one in hand is played out; whether that was so."""
        state = self._t.state[0]
        if not state["dry"]:
            return False
        state["dry"] = 0
        following = self._piece.following()
        if following is None:
            state["more"] = 0
            return True
        state["base"] += len(self.stream)
        state["position"] = state["control"] = 0
        self._piece, new = following, following.stream
        self._t = self._t._replace(ts=new.ts, cell=new.cell, size=new.size, controls=new.controls)
        return True

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
        return book_of(self.cells, self._grid, self._piece.time_of(row))

    @property
    def stream(self) -> Stream:
        """The piece of the stream that is being played; nothing before the first :meth:`advance`."""
        return self._piece.stream

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
        self.advance(at)
        buys = (side is Side.BUY) != (outcome == 1)
        row = np.zeros(1, ORDER)
        row["buys"], row["mirrored"], row["size"], row["expires_at"] = buys, outcome, size, FOREVER
        row["level"] = self._bound(limit, outcome, buys)
        order = self._number(row)
        while not strike(self._t, order - self._first, at):
            self._make_room()
        return order

    def peek(self, until: Nanos) -> Nanos | None:
        """When something next happens to an order of ours, up to ``until``, if nothing more is sent.

        The session stays where it is. For an engine that books the fills of many markets in the order of
        time: it asks here how far it need not look, and then calls :meth:`advance`.
        """
        here, piece = self._t, self._piece
        fresh: dict[str, Any] = {name: getattr(here, name).copy() for name in _MUTABLE}
        fresh |= {name: np.zeros_like(getattr(here, name)[: len(here.price) + 64]) for name in _TOLD}
        self._t = here._replace(**fresh)
        for name in ("fills", "reports"):
            self._t.state[name] = 0
        self._t.state["pauses"] = 1
        try:
            while not run(self._t, until):
                if found := self._told():
                    return min(found)
                self._make_room()
            return None
        finally:
            self._t, self._piece = here, piece

    def _told(self) -> list[Nanos]:
        fills, reports = self.fills["at"], self.reports["at"]
        return [*fills.tolist(), *reports.tolist()]

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
        return self._t.orders[:, : self._submitted - self._first]

    def take_results(self) -> Results:
        """Hand over what has happened and forget it, so that memory is flat however many orders come.

        ``fills``, ``reports`` and ``orders`` go on without it; an order goes when it and all before it are
        done in every lane, and no command is on its way to it.
        """
        t = self._t
        found = Results(self._first, self.orders, self.fills.copy(), self.reports.copy())
        sent, spent = int(t.state["commands"][0]), int(t.lanes["next_command"].min())
        alive = (found.orders["status"] != Status.DONE).any(axis=0)
        alive[t.commands["order"][spent:sent]] = True
        done = int(alive.argmax()) if alive.any() else len(alive)
        found = found._replace(orders=found.orders[:, :done].copy())
        for name, gone in (("orders", done), ("commands", spent), ("arrival", spent)):
            table = getattr(t, name)
            table[..., : table.shape[-1] - gone] = table[..., gone:].copy()
        t.commands["order"] -= done
        t.resting[:] -= done
        t.held[:] -= done
        t.lanes["next_command"] -= spent
        t.state["commands"] -= spent
        t.state["first_order"] += done
        t.state["first_command"] += spent
        t.state["fills"] = t.state["reports"] = 0
        return found

    def matches(self, order: int, lane: int = 0) -> list[list[FillLeg]]:
        """The fills of one order, match by match, as the fee models take them."""
        own = self.fills[(self.fills["lane"] == lane) & (self.fills["order"] == order)]
        record = self.orders[lane, order - self._first]
        side = Side.BUY if bool(record["buys"]) != bool(record["mirrored"]) else Side.SELL
        found: dict[int, list[FillLeg]] = {}
        for fill in own:
            liquidity = Liquidity.MAKER if fill["maker"] else Liquidity.TAKER
            leg = FillLeg(int(fill["price"]), int(fill["size"]), side, liquidity)
            found.setdefault(int(fill["match"]), []).append(leg)
        return list(found.values())
