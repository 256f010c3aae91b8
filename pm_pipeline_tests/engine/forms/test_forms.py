"""Vectorised, event and compiled strategies: the same wishes become the same orders and fills."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest
from hypothesis import given as hypothesis_given
from hypothesis import settings
from hypothesis import strategies as st

from pm_pipeline.engine import MarketInput, RunConfig, Scenario, SimResult
from pm_pipeline.engine.forms.deciders import Fill
from pm_pipeline.engine.forms.live import Context, StrategyFailedError
from pm_pipeline.engine.forms.lookahead import find_lookahead
from pm_pipeline.engine.simulation.simulate import simulate
from pm_pipeline.markets import MICRO, Market, Side
from pm_pipeline.markets.clock import SECOND
from pm_pipeline.sources.sandbox.plans import TAPERED
from pm_pipeline.strategies.base import BaseStrategy, EventStrategy, LiveStrategy
from pm_pipeline.warehouse.arrays import Quote
from pm_pipeline.warehouse.asof import MarketData, view_of
from pm_pipeline_tests.engine.builders import CENT, at, book, data, execution, market, resolved, snapshot
from pm_pipeline_tests.engine.forms.forms import Compiled, Event, Params, Vectorised
from pm_pipeline_tests.engine.kernel.test_recorded import SESSIONS, log_of, needs_sessions
from pm_pipeline_tests.warehouse import builders as warehouse

FORMS = (Vectorised, Event, Compiled)


def played(
    strategy: BaseStrategy[Params], of: MarketData, scenario: Scenario, **changes: object
) -> SimResult:
    decides = strategy.decider if isinstance(strategy, LiveStrategy) else strategy.signals(view_of(of))
    config = RunConfig(stake=20 * MICRO, uses_schedule=False, execution=execution(**changes))
    first, last = of.first_known or at(0), int(of.quotes().ts[-1])
    end = replace(resolved(0, 0), closed_at=last + 60 * SECOND, resolved_at=last + 120 * SECOND)
    given = MarketInput(of.market, end, lambda: of, decides)
    window = (first, last + 120 * SECOND)
    return simulate([given], config, scenario, strategy="crossing", run_id="r1", window=window)


def quoted(points: Sequence[tuple[int, int, int]]) -> MarketData:
    """A market of these bids and offers, with the mid between them."""
    rows = [
        {"ts": ts, "mid": (bid + ask) * CENT // 2, "bid": bid * CENT, "ask": ask * CENT}
        for ts, bid, ask in points
    ]
    return data(market(), {"market_data.prices": warehouse.prices(rows)})


def rows(result: SimResult) -> list[pa.Table]:
    """All tables; the numbers in order ids count what was raised in the market, which differs by form."""
    plain = []
    for table in (result.fills, result.orders):
        ids = [text.rsplit("/", 1)[0] for text in table.column("order_id").to_pylist()]
        table = table.set_column(table.schema.get_field_index("order_id"), "order_id", pa.array(ids))
        plain.append(table.sort_by([(name, "ascending") for name in table.column_names]))
    return [*plain, result.trips, result.rejections, result.equity]


@needs_sessions
@pytest.mark.parametrize("scenario", list(Scenario))
@pytest.mark.parametrize("path", SESSIONS[:2], ids=lambda path: path.parent.name[-24:])
def test_three_forms_fill_alike_on_recorded_books(path: Path, scenario: Scenario) -> None:
    session = json.loads(path.read_text("utf-8"))
    filled = 0
    for ticker in session["markets"]:
        log = log_of(path.parent, ticker)
        if not len(log):
            continue
        of = MarketData.of_tables(market(f"kalshi:{ticker}", ticks=TAPERED), {})
        of.__dict__["book_log"] = log
        results = [rows(played(form(Params()), of, scenario)) for form in FORMS]
        assert results[0] == results[1] == results[2]
        filled += results[0][0].num_rows
    assert filled > 0


WALK = st.lists(st.tuples(st.integers(1, 40), st.integers(2, 97), st.integers(1, 3)), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@hypothesis_given(
    walk=WALK, scenario=st.sampled_from(list(Scenario)), latency=st.sampled_from([0, 1, 5 * 10**9])
)
def test_three_forms_fill_alike_on_any_quotes(
    walk: list[tuple[int, int, int]], scenario: Scenario, latency: int
) -> None:
    ts, points = 0, []
    for step, bid, spread in walk:
        ts += step
        points.append((ts, bid, bid + spread))
    of = quoted(points)
    results = [rows(played(form(Params()), of, scenario, latency=latency)) for form in FORMS]
    assert results[0] == results[1] == results[2]


def test_a_rehearsal_wants_what_the_vectorised_form_wants() -> None:
    of = quoted([(1, 40, 41), (5, 52, 53), (9, 47, 48), (20, 60, 61)])
    wanted = Vectorised(Params()).signals(view_of(of))
    assert len(wanted) == 3
    assert Event(Params()).signals(view_of(of)) == wanted
    assert Compiled(Params()).signals(view_of(of)) == wanted


def test_a_rehearsal_of_a_view_that_is_cut_off_wants_the_beginning_of_the_same() -> None:
    points = [(n, 40 + 20 * (n // 7 % 2), 41 + 20 * (n // 7 % 2)) for n in range(1, 80)]
    of = quoted(points)
    for form in (Event, Compiled):
        strategy = form(Params())
        whole = strategy.signals(view_of(of))
        assert len(whole) > 5
        assert find_lookahead(strategy, view_of(of), whole) == []


class Peeking(EventStrategy[Params]):
    name, title, Params = "peeking", "Look into the drawer", Params

    def on_price(self, context: Context, outcome: int, quote: Quote) -> None:
        context.view.as_of(context.now + 1)


class Clumsy(EventStrategy[Params]):
    name, title, Params = "clumsy", "Trip over", Params

    def on_fill(self, context: Context, fill: Fill) -> None:
        raise ZeroDivisionError("one over nothing")

    def on_price(self, context: Context, outcome: int, quote: Quote) -> None:
        if context.position() == 0:
            context.enter()


def test_a_strategy_that_raises_ends_its_run_with_market_time_and_traceback() -> None:
    of = quoted([(1, 40, 41), (5, 52, 53)])
    with pytest.raises(StrategyFailedError) as raised:
        played(Clumsy(Params()), of, Scenario.BASE)
    said = str(raised.value)
    assert "'clumsy' raised ZeroDivisionError in on_fill on polymarket:1 at 2025-" in said
    assert "one over nothing" in said
    assert 'raise ZeroDivisionError("one over nothing")' in said


def test_an_event_strategy_cannot_look_past_its_moment() -> None:
    of = quoted([(1, 40, 41), (5, 52, 53)])
    with pytest.raises(StrategyFailedError, match="may only look back"):
        played(Peeking(Params()), of, Scenario.BASE)


class Diary(EventStrategy[Params]):
    name, title, Params = "diary", "Write everything down", Params
    log: ClassVar[list[tuple[object, ...]]] = []

    def on_start(self, context: Context) -> None:
        self.log.append(("start", context.now))

    def on_book(self, context: Context) -> None:
        book = context.book
        self.log.append(("book", context.now, book.bid if book else None, book.ask if book else None))

    def on_trade(self, context: Context, outcome: int, price: int, size: int, side: Side) -> None:
        self.log.append(("trade", context.now, price, size, side))

    def on_price(self, context: Context, outcome: int, quote: Quote) -> None:
        self.log.append(("price", context.now, quote.bid, quote.ask))
        if quote.ask == 48 * CENT:
            context.enter(stake=MICRO)

    def on_fill(self, context: Context, fill: Fill) -> None:
        self.log.append(("fill", context.now, fill.size, fill.price, context.position()))

    def on_end(self, context: Context) -> None:
        self.log.append(("end", context.now))


def test_callbacks_come_in_the_order_in_which_things_were_known(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[tuple[object, ...]] = []
    monkeypatch.setattr(Diary, "log", log)
    events = book(
        [*snapshot(2, [(45, 100)], [(48, 50)]), warehouse.level(9, "bid", 46, 5), warehouse.event(12, "gap")]
    )
    trades = {"market_data.trades": warehouse.trades([{"ts": 9, "price": 48 * CENT, "size": 7 * MICRO}])}
    of = data(opened(), events, trades)
    given = MarketInput(of.market, resolved(20, 30), lambda: of, Diary(Params()).decider)
    config = RunConfig(execution=execution())
    simulate([given], config, Scenario.BASE, strategy="diary", run_id="r1")
    size = MICRO * MICRO // (48 * CENT) // CENT * CENT
    assert log == [
        ("start", at(0)),
        ("book", at(2), 45 * CENT, 48 * CENT),
        ("price", at(2), 45 * CENT, 48 * CENT),
        ("fill", at(4), size, 48 * CENT, size),
        ("trade", at(9), 48 * CENT, 7 * MICRO, Side.BUY),
        ("book", at(9), 46 * CENT, 48 * CENT),
        ("price", at(9), 46 * CENT, 48 * CENT),
        ("book", at(12), None, None),
        ("price", at(12), None, None),
        ("end", at(20)),
    ]


def opened() -> Market:
    return market(opened_at=at(0))
