"""Strategies that go along with a market: asked at every event, in Python or in machine code.

Both read the same :class:`~pm_pipeline.engine.forms.feed.Feed` and say what they want as signals, so that
whatever form a strategy has, the same wishes at the same moments become the same orders.
"""

import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from pm_pipeline.engine.forms.deciders import Decision, Fill
from pm_pipeline.engine.forms.feed import Feed, What
from pm_pipeline.engine.kernel.book import book_of
from pm_pipeline.engine.kernel.cache import compile_entry
from pm_pipeline.engine.kernel.steps import MOST_WISHES, NONE, SEEN, WISH, Want, go_on
from pm_pipeline.engine.reasons import Reason
from pm_pipeline.engine.signals import Action, Signal, Skip, check_signal
from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.book import Book
from pm_pipeline.markets.clock import Nanos, format_time
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import Micro
from pm_pipeline.warehouse.arrays import Quote
from pm_pipeline.warehouse.asof import AsOfView


class StrategyFailedError(PipelineError):
    """A strategy raised while it went along with a market."""


class Handler(Protocol):
    """What a strategy in the event form does; each is told what happened and may use the context."""

    def on_start(self, context: "Context") -> None:
        """The market comes into sight."""

    def on_price(self, context: "Context", outcome: int, quote: Quote) -> None:
        """A new quote of an outcome."""

    def on_book(self, context: "Context") -> None:
        """A message changed the book: ``context.book``."""

    def on_trade(self, context: "Context", outcome: int, price: Micro, size: Micro, side: Side) -> None:
        """Somebody took."""

    def on_fill(self, context: "Context", fill: Fill) -> None:
        """One of our own orders traded."""

    def on_end(self, context: "Context") -> None:
        """Trading has ended; what is wanted now is refused."""


class Context:
    """What a strategy knows at a moment, and where it says what it wants.

    ``now`` is the moment, ``market`` the market as it was listed. Wishes are carried out in their order.
    """

    def __init__(self, view: AsOfView, start: Nanos, book: Callable[[], Book | None]) -> None:
        self.market: Market = view.market
        self._build = book
        self._book: Book | None = None
        self._built = False
        self.now = start
        self.wishes: deque[Decision] = deque()
        self._view = view
        self._held: Counter[int] = Counter()

    @property
    def view(self) -> AsOfView:
        """The market as it is known now."""
        return self._view.as_of(self.now)

    @property
    def book(self) -> Book | None:
        """The order book of outcome 0 as known now; ``None`` while there is none, or none to be trusted."""
        if not self._built:
            self._book, self._built = self._build(), True
        return self._book

    def forget_book(self) -> None:
        """The book has changed; it is built anew when somebody asks."""
        self._built = False

    def position(self, outcome: int = 0) -> Micro:
        """Contracts held, as far as the strategy has been told."""
        return self._held[outcome]

    def enter(self, outcome: int = 0, **terms: Any) -> None:
        """Buy at once; ``terms`` are fields of :class:`~pm_pipeline.engine.signals.Signal`."""
        self._want(Action.ENTER, outcome, terms)

    def exit(self, outcome: int = 0, **terms: Any) -> None:
        """Sell the whole position at once."""
        self._want(Action.EXIT, outcome, terms)

    def quote(self, name: str, price: Micro, *, outcome: int = 0, **terms: Any) -> None:
        """Let an order rest at a price, or change the one of this name (and outcome, and side)."""
        self._want(Action.QUOTE, outcome, {"name": name, "limit_price": price, **terms})

    def cancel(self, name: str, *, outcome: int = 0, side: Side = Side.BUY) -> None:
        """Take a resting order back."""
        self._want(Action.CANCEL, outcome, {"name": name, "side": side})

    def split(self, size: Micro) -> None:
        """Make so many full sets of dollars."""
        self._want(Action.SPLIT, 0, {"size": size})

    def merge(self, size: Micro | None = None) -> None:
        """Make dollars of so many full sets, or of all that are held."""
        self._want(Action.MERGE, 0, {"size": size})

    def skip(self, reason: str, detail: str = "", outcome: int | None = None) -> None:
        """Note that nothing was done, and why."""
        self.wishes.append(Skip(self.now, reason, detail, outcome))

    def _want(self, action: Action, outcome: int, terms: dict[str, Any]) -> None:
        signal = Signal(ts=self.now, inputs_known_at=self.now, outcome_index=outcome, action=action, **terms)
        check_signal(signal)
        self.wishes.append(signal)

    def told(self, fill: Fill) -> None:
        """Keep count of what is held."""
        self._held[fill.outcome] += fill.size if fill.side is Side.BUY else -fill.size


class EventDecider:
    """A strategy in the event form on one market."""

    listens = True

    def __init__(self, name: str, handler: Handler, view: AsOfView, start: Nanos) -> None:
        self._name = name
        self._handler = handler
        self._feed = Feed.of(view)
        self._start = start
        self._cells = np.zeros(2 * len(self._feed.grid), np.int64)
        self._known = False
        self._row = 0
        self._over = False
        self._context = Context(view, start, self._book)
        self.decided: list[Decision] = []
        self._call(handler.on_start)

    def next(self, until: Nanos) -> Nanos | None:
        """Tell the strategy of everything known before ``until``, up to where it wants something."""
        rows, count = self._feed.rows, len(self._feed)
        while not self._context.wishes and not self._over:
            if self._row >= count or rows.at[self._row] >= until:
                return None
            self._context.now = int(rows.at[self._row])
            self._tell(self._row)
            self._row += 1
        return max(self._context.now, self._start) if self._context.wishes else None

    def decide(self, now: Nanos) -> Decision | None:
        """The next wish."""
        if not self._context.wishes or now < self._context.now:
            return None
        self.decided.append(found := _in_time(self._context.wishes.popleft(), self._start))
        return found

    def told(self, fill: Fill, now: Nanos) -> None:
        """Pass a fill on."""
        if not self._over:
            self._context.now = now
            self._context.told(fill)
            self._call(self._handler.on_fill, fill)

    def end(self, now: Nanos) -> None:
        """Trading has ended."""
        self._context.now = now
        self._call(self._handler.on_end)
        self._over = True

    def _tell(self, row: int) -> None:
        rows, handler = self._feed.rows, self._handler
        what, outcome = int(rows.what[row]), int(rows.outcome[row])
        a, b, c = int(rows.a[row]), int(rows.b[row]), int(rows.c[row])
        if what == What.LEVEL:
            if self._known:
                self._cells[a] = b
        elif what in (What.RESET, What.GAP):
            self._cells[:] = 0
            self._known = what == What.RESET
        elif what == What.TRADE:
            self._call(handler.on_trade, outcome, a, b, Side.BUY if c > 0 else Side.SELL)
        elif what == What.PRICE:
            prices = (None if price == NONE else price for price in (a, b, c))
            self._call(handler.on_price, outcome, Quote(self._context.now, self._context.now, *prices))
        else:
            self._context.forget_book()
            self._call(handler.on_book)

    def _book(self) -> Book | None:
        if not self._known:
            return None
        book = book_of(self._cells, self._feed.grid, self._context.now)
        crossed = book.bids and book.asks and book.bids[0].price >= book.asks[0].price
        return None if crossed else book

    def _call(self, callback: Callable[..., None], *told: Any) -> None:
        try:
            callback(self._context, *told)
        except Exception as error:
            where = f"{self._context.market.key} at {format_time(self._context.now)}"
            raise StrategyFailedError(
                f"strategy {self._name!r} raised {type(error).__name__} in {callback.__name__} on {where}: "
                f"{error}\n{''.join(traceback.format_exception(error))}"
            ) from error


class CompiledDecider:
    """A compiled strategy on one market."""

    listens = True

    def __init__(self, step: Any, params: Sequence[float], memory: int, view: AsOfView, start: Nanos) -> None:
        compile_entry(go_on)
        self._start = start
        self._step = step
        self._feed = Feed.of(view)
        self._prices = np.ascontiguousarray(self._feed.grid.prices)
        self._book = np.zeros(2 * len(self._feed.grid), np.int64)
        self._params = np.array(params, np.float64)
        self._memory = np.zeros(memory, np.float64)
        self._seen: Any = np.zeros(1, SEEN)
        for name in ("mid", "bid", "ask", "bid_size", "ask_size", "price", "size"):
            self._seen[name] = NONE
        self._wishes: Any = np.zeros(MOST_WISHES, WISH)
        self._queue: deque[Decision] = deque()
        self._row = 0
        self._over = False
        self.decided: list[Decision] = []

    def next(self, until: Nanos) -> Nanos | None:
        """Go on in machine code until something is wanted, or ``until``."""
        if not self._queue and not self._over:
            wanted = np.zeros(1, np.int64)
            for name in WISH.names or ():
                self._wishes[name] = NONE
            self._wishes["p_hat"] = self._wishes["p_se"] = np.nan
            self._row = go_on(
                self._step,
                *self._feed.rows,
                self._row,
                until,
                self._book,
                self._prices,
                self._seen,
                self._params,
                self._memory,
                self._wishes,
                wanted,
            )
            now = int(self._seen["now"][0])
            self._queue.extend(_signal(now, wish) for wish in self._wishes[: int(wanted[0])])
        return max(int(self._seen["now"][0]), self._start) if self._queue else None

    def decide(self, now: Nanos) -> Decision | None:
        """The next wish."""
        if not self._queue or now < int(self._seen["now"][0]):
            return None
        self.decided.append(found := _in_time(self._queue.popleft(), self._start))
        return found

    def told(self, fill: Fill, now: Nanos) -> None:
        """Keep count of what is held."""
        sign = 1 if fill.side is Side.BUY else -1
        if fill.outcome in (0, 1):
            self._seen[f"held_{fill.outcome}"] += sign * fill.size

    def end(self, now: Nanos) -> None:
        """Trading has ended."""
        self._over = True


def _in_time(found: Decision, start: Nanos) -> Decision:
    """What was wanted while a strategy caught up with what happened before the run is passed over."""
    if found.ts >= start or isinstance(found, Skip):
        return found
    return Skip(found.ts, Reason.NOT_OPEN, f"the run began at {format_time(start)}", found.outcome_index)


def _signal(now: Nanos, wish: Any) -> Signal:
    def given(name: str) -> int | None:
        value = int(wish[name])
        return None if value == NONE else value

    def probability(name: str) -> float | None:
        value = float(wish[name])
        return None if np.isnan(value) else value

    signal = Signal(
        ts=now,
        inputs_known_at=now,
        outcome_index=int(wish["outcome"]),
        action=Action[Want(int(wish["want"])).name],
        p_hat=probability("p_hat"),
        p_se=probability("p_se"),
        limit_price=given("limit"),
        stake=given("stake"),
        stop_price=given("stop"),
        target_price=given("target"),
        trailing=given("trailing"),
        exit_at=given("exit_at"),
        all_or_none=given("all_or_none") == 1,
        name="" if given("name") is None else str(given("name")),
        side=Side.SELL if given("sells") == 1 else Side.BUY,
        size=given("size"),
        post_only=given("takes") != 1,
        expires_at=given("expires_at"),
    )
    check_signal(signal)
    return signal
