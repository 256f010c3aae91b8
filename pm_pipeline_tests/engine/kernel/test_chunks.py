"""A stream that comes in pieces is played like the whole."""

import gc
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.engine.kernel import (
    Grid,
    Lane,
    NewOrder,
    QueueMode,
    Session,
    Stream,
    TimeInForce,
    VenueRules,
)
from pm_pipeline.engine.kernel.stream import Rows
from pm_pipeline.errors import UsageError
from pm_pipeline.markets import MICRO, Side
from pm_pipeline.markets.clock import FOREVER, SECOND
from pm_pipeline.sources.sandbox.plans import TAPERED
from pm_pipeline_tests.engine.builders import doc_table
from pm_pipeline_tests.engine.kernel.scripts import CENT, CENTS, Script, fills, reports
from pm_pipeline_tests.engine.kernel.test_recorded import log_of
from pm_pipeline_tests.shared import SHARED, needs_shared

LANES = tuple(Lane(queue=mode) for mode in QueueMode)
PAGE = [row for title in ("Taking", "Refusals", "Resting") for row in doc_table("fills.md", title)]


class Cut:
    """A whole stream, cut before these rows; some pieces may be empty."""

    def __init__(self, stream: Stream, before: Sequence[int]) -> None:
        self.grid, self.stream = stream.grid, stream
        self.bounds = [0, *sorted(min(row, len(stream)) for row in before), len(stream)]
        self.read = 0

    def pieces(self) -> Iterator[Stream]:
        for start, end in zip(self.bounds, self.bounds[1:], strict=False):
            columns: list[Any] = [self.stream.ts, self.stream.known_at, self.stream.cell, self.stream.size]
            self.read = end
            yield Stream.of_rows(self.grid, Rows(*(column[start:end].copy() for column in columns)))


def same(found: Session, expected: Session) -> bool:
    """Fills, reports and orders are the same, row by row."""
    return all(
        getattr(found, name).tolist() == getattr(expected, name).tolist()
        for name in ("fills", "reports", "orders")
    )


def play(script: Script, source: Any, lanes: Sequence[Lane]) -> Session:
    session = Session(source, VenueRules(min_size=5 * MICRO, lot=MICRO, closes_at=script.closes_at), lanes)
    for at, words in script.commands:
        script.obey(session, at, words)
    session.advance(script.end)
    return session


@pytest.mark.parametrize("row", PAGE, ids=str)
def test_the_page_of_fills_holds_for_pieces_of_any_length(row: dict[str, str]) -> None:
    script = Script(row["script"], SECOND // 10 if "probabilistic" in row else SECOND)
    whole = script.play(LANES)
    stream = script.stream()
    for length in range(1, len(stream) + 1):
        assert same(play(script, Cut(stream, range(0, len(stream), length)), LANES), whole), length
    assert fills(whole) or reports(whole) or not row.get("fills")


STEPS = st.lists(
    st.sampled_from(
        [
            "buy 30",
            "sell 20 at 44 gtc",
            "buy 10 at 45 gtc",
            "buy 10 at 46 gtd 2",
            "sell no 20 at 50 gtc delay 1",
            "trade sell 45 30",
            "trade buy 48 60",
            "bid 45 20",
            "ask 46 15",
            "ask 46 0",
            "gap",
            "snapshot",
            "snapshot 44x10 / 47x5",
        ]
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=80, deadline=None)
@given(steps=STEPS, cuts=st.lists(st.integers(0, 80), max_size=12), stops=st.sets(st.integers(1, 30)))
def test_no_cut_and_no_pause_changes_a_result(steps: list[str], cuts: list[int], stops: set[int]) -> None:
    script = Script("; ".join(steps))
    whole = script.play(LANES)
    session = Session(Cut(script.stream(), cuts), VenueRules(min_size=5 * MICRO, lot=MICRO), LANES)
    for moment in sorted({(10 + s) * SECOND for s in stops if (10 + s) * SECOND < script.end} | {script.end}):
        while script.commands and script.commands[0][0] <= moment:
            script.obey(session, *script.commands.pop(0))
        session.advance(moment)
        alone = Session(script.stream())
        assert session.book(moment) == alone.book(moment)
    assert same(session, whole)


def long_stream(rows: int = 1000) -> Stream:
    """A bid that changes each second, and a trade on it each tenth."""
    grid = Grid.of([CENTS])
    levels = len(grid)
    ts = np.arange(rows, dtype=np.int64) * SECOND
    cell = np.where(np.arange(rows) % 10 == 9, 2 * levels + 2 * 44, 2 * 44).astype(np.uint16)
    cell[:2] = 4 * levels, 4 * levels + 1
    return Stream.of_rows(grid, Rows(ts, ts, cell, np.full(rows, 30 * MICRO)))


def test_no_more_is_read_than_a_moment_needs_and_the_rest_is_let_go_of() -> None:
    stream = long_stream()
    source = Cut(stream, range(0, 1000, 100))
    held: list[weakref.ref[Any]] = []

    class Told(Cut):
        def pieces(self) -> Iterator[Stream]:
            for piece in source.pieces():
                held.append(weakref.ref(piece.ts))
                yield piece
                del piece

    session = Session(Told(stream, ()))
    assert source.read == 0
    session.advance(150 * SECOND)
    assert source.read == 200
    session.advance(199 * SECOND)
    assert source.read == 300  # another event might share the moment of the last one
    session.advance()
    gc.collect()
    assert sum(array() is not None for array in held) == 1


def test_a_look_ahead_over_many_pieces_changes_nothing() -> None:
    stream = long_stream()
    order = NewOrder(side=Side.BUY, size=200 * MICRO, price=45 * CENT, tif=TimeInForce.GTC)
    sessions = [Session(stream), Session(Cut(stream, range(0, 1000, 7)))]
    for session in sessions:
        session.submit(order, SECOND)
        session.advance(5 * SECOND)
    seen: list[list[int | None]] = [[], []]
    for session, told in zip(sessions, seen, strict=True):
        while (at := session.peek(900 * SECOND)) is not None:
            told.append(at)
            session.advance(at)
    assert seen[0] == seen[1]
    assert len(seen[0]) > 3
    assert same(*sessions)


def test_a_book_at_the_start_of_a_piece_is_of_the_event_before_it() -> None:
    stream = long_stream(12)
    session = Session(Cut(stream, [4]))
    book = session.book(3 * SECOND)
    assert book is not None
    assert book.ts == 3 * SECOND
    assert len(session.stream) == 8


def test_an_empty_source_has_no_book_and_refuses() -> None:
    session = Session(Cut(Stream.empty(Grid.of([CENTS])), [0, 0]))
    session.submit(NewOrder(side=Side.BUY, size=MICRO), 1)
    session.advance()
    assert (session.book(FOREVER), reports(session)) == (None, "1:book_gap")


@needs_shared
@pytest.mark.parametrize("length", [1_000, 4_096])
def test_a_recorded_session_in_pieces_gives_the_fills_of_the_whole(length: int) -> None:
    folder = Path(SHARED / "recorded/kalshi_btc15m_l2_2026/rv600_forward_native_shadow_20260513T1259Z")
    stream = Stream.of(log_of(folder, "KXBTC15M-26MAY130915-15"), [(0, TAPERED)])
    played = []
    for source in (stream, Cut(stream, range(0, len(stream), length))):
        session = Session(source, VenueRules(), LANES)
        moments = np.linspace(int(stream.ts[0]), int(stream.ts[-1]), 200).astype(np.int64).tolist()
        for n, at in enumerate(moments):
            tif = (TimeInForce.IOC, TimeInForce.GTC)[n % 3 > 0]
            price = (20 + n % 60) * CENT
            side = (Side.BUY, Side.SELL)[n % 2]
            number = session.submit(NewOrder(side=side, size=50 * MICRO, price=price, tif=tif), at)
            session.cancel(number, at + 60 * SECOND)
            if n % 7 == 0:
                session.advance(at)
        session.advance()
        played.append(session)
    assert same(*played)
    assert len(played[0].fills) > 300


def test_results_that_are_taken_on_the_way_are_those_of_the_whole() -> None:
    stream = long_stream()
    whole, parts = Session(stream, lanes=LANES), Session(Cut(stream, range(0, 1000, 90)), lanes=LANES)
    taken = []
    for n in range(60):
        at = (5 + 15 * n) * SECOND
        tif = (TimeInForce.IOC, TimeInForce.GTC)[n % 3 > 0]
        price = (45 + n % 2) * CENT
        for session in (whole, parts):
            session.advance(at - 1)
            order = session.submit(NewOrder(side=Side.BUY, size=40 * MICRO, price=price, tif=tif), at)
            assert order == n
            if n % 4 == 1:
                session.cancel(order, at + 40 * SECOND)
                session.cancel(order, at + 50 * SECOND)  # it is gone by then, and the report says so
            if n % 5 == 2:
                session.amend(order, at + SECOND, size=60 * MICRO)
        if n % 3 == 0:
            taken.append(parts.take_results())
    for session in (whole, parts):
        session.advance()
    taken.append(parts.take_results())
    for name in ("fills", "reports"):
        rows = np.concatenate([getattr(results, name) for results in taken])
        assert rows.tolist() == getattr(whole, name).tolist()
        assert len(getattr(parts, name)) == 0
    numbers = [results.first for results in taken]
    orders = np.concatenate([results.orders for results in taken], axis=1)
    assert numbers == np.cumsum([0, *(results.orders.shape[1] for results in taken[:-1])]).tolist()
    assert len(set(numbers)) > 5
    assert orders.tolist() == whole.orders[:, : orders.shape[1]].tolist()
    assert parts.orders.tolist() == whole.orders[:, orders.shape[1] :].tolist()
    assert len(whole.fills) > 30
    with pytest.raises(UsageError, match="there is no order 0; 60 were submitted"):
        parts.cancel(0, FOREVER)


def test_tables_do_not_grow_where_results_are_taken() -> None:
    session = Session(long_stream())
    for n in range(900):
        session.submit(NewOrder(side=Side.SELL, size=MICRO), (2 + n) * SECOND)
        session.advance((2 + n) * SECOND)
        assert len(session.take_results().fills) == 1
    assert all(len(getattr(session._t, name)[..., :].T) <= 512 for name in ("orders", "commands", "fills"))
