from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets import Book
from pm_pipeline.warehouse import BookReplay, StorageError
from pm_pipeline.warehouse.arrays import BookLog, book_log_from
from pm_pipeline.warehouse.replay import book_quotes
from pm_pipeline_tests.warehouse.builders import at, book_events, event, level


def log_of(*rows: dict[str, Any]) -> BookLog:
    return book_log_from(book_events(rows))


def shown(book: Book | None) -> tuple[list[tuple[int, int]], list[tuple[int, int]]] | None:
    """Levels in cents and contracts."""
    if book is None:
        return None
    bids, asks = ([(p // 10_000, s // 1_000_000) for p, s in side] for side in (book.bids, book.asks))
    return bids, asks


SNAPSHOT = (event(1, "reset"), level(1, "bid", 40, 5), level(1, "bid", 39, 7), level(1, "ask", 60, 5))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((), None),
        ((level(1, "bid", 40, 5),), None),
        ((event(1, "reset"),), ([], [])),
        (SNAPSHOT, ([(40, 5), (39, 7)], [(60, 5)])),
        (SNAPSHOT[::-1], ([(40, 5), (39, 7)], [(60, 5)])),
        ((*SNAPSHOT, level(2, "bid", 40, 9)), ([(40, 9), (39, 7)], [(60, 5)])),
        ((*SNAPSHOT, level(2, "bid", 40, 0)), ([(39, 7)], [(60, 5)])),
        ((*SNAPSHOT, level(2, "bid", 10, 0)), ([(40, 5), (39, 7)], [(60, 5)])),
        ((*SNAPSHOT, event(2, "reset"), level(2, "ask", 70, 1)), ([], [(70, 1)])),
        ((*SNAPSHOT, event(2, "gap")), None),
        ((*SNAPSHOT, event(2, "gap"), level(3, "bid", 41, 1)), None),
        ((*SNAPSHOT, event(2, "gap"), event(3, "reset"), level(3, "bid", 1, 1)), ([(1, 1)], [])),
        ((*SNAPSHOT, level(2, "bid", 60, 1)), None),
        ((*SNAPSHOT, level(2, "bid", 61, 1), level(3, "bid", 61, 0)), ([(40, 5), (39, 7)], [(60, 5)])),
        ((*SNAPSHOT, level(2, "bid", 61, 1), event(3, "reset")), ([], [])),
        # seq 2 arrives after seq 3: an outsider cannot know what it still means
        ((*SNAPSHOT, level(3, "bid", 41, 1, ts=3), level(2, "bid", 42, 1, ts=4)), None),
        ((*SNAPSHOT, level(3, "bid", 41, 1, ts=3), event(2, "reset", ts=4)), None),
        ((*SNAPSHOT, level(3, "bid", 41, 1, ts=3), event(2, "gap", ts=4), event(5, "reset")), ([], [])),
    ],
)
def test_the_book_at_the_end_of_a_log(rows: tuple[dict[str, Any], ...], expected: object) -> None:
    assert shown(BookReplay(log_of(*rows)).advance(at(100))) == expected


def test_advancing_shows_each_message_when_it_is_known() -> None:
    late = level(2, "bid", 45, 1, ts=2, known_at=7)
    replay = BookReplay(log_of(*SNAPSHOT, late))
    assert replay.advance(at(1) - 1) is None
    book = replay.advance(at(1))
    assert book is not None
    assert (book.bid, book.ts) == (400_000, at(1))
    assert replay.advance(at(7) - 1) is book
    book = replay.advance(at(7))
    assert book is not None
    assert (book.bid, book.ts) == (450_000, at(2))
    with pytest.raises(ValueError, match="rewind it first"):
        replay.advance(at(6))
    replay.rewind()
    book = replay.advance(at(6))
    assert book is not None
    assert book.bid == 400_000


def test_the_clock_of_the_venue_shows_messages_when_they_happened() -> None:
    replay = BookReplay(
        log_of(
            *SNAPSHOT,
            level(2, "bid", 45, 1, ts=2, known_at=9),
            level(3, "bid", 46, 1, ts=3, known_at=8),
        ),
        clock="ts",
    )
    assert [(book.bid if (book := replay.advance(at(t))) else None) for t in (0, 1, 2, 3)] == [
        None,
        400_000,
        450_000,
        460_000,
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"ts": 1, "seq": 1},
        level(1, "bid", 101, 1),
        level(1, "bid", -1, 1),
        level(1, "ask", 1, -1),
        level(1, "buy", 1, 1),
        event(1, "snapshot"),
    ],
)
def test_impossible_rows_are_refused(row: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match="materialise"):
        log_of(row)


def test_quotes_follow_the_touch_and_say_when_the_book_is_lost() -> None:
    quotes = book_quotes(
        log_of(
            *SNAPSHOT,
            level(2, "bid", 38, 1),  # behind the touch
            level(3, "bid", 41, 1, known_at=4),
            level(4, "ask", 60, 0),
            event(5, "gap"),
            level(6, "bid", 50, 1),  # nothing is known
            event(7, "reset"),
            level(7, "bid", 50, 1),
            level(7, "ask", 53, 1),
        )
    )
    assert quotes.ts.tolist() == [at(1), at(3), at(4), at(5), at(7)]
    assert quotes.known_at.tolist() == [at(1), at(4), at(4), at(5), at(7)]
    assert quotes.bid.tolist() == [400_000, 410_000, 410_000, -1, 500_000]
    assert quotes.ask.tolist() == [600_000, 600_000, -1, -1, 530_000]
    assert quotes.mid.tolist() == [500_000, 505_000, -1, -1, 515_000]
    assert len(book_quotes(log_of())) == 0


kinds_of_event: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("reset")),
    st.tuples(st.just("gap")),
    st.tuples(st.just("level"), st.sampled_from(["bid", "ask"]), st.integers(45, 55), st.integers(0, 3)),
)


@st.composite
def logs(draw: st.DrawFn) -> pa.Table:
    """Book events in any order of arrival, with messages of one or more rows."""
    rows: list[dict[str, Any]] = []
    seq = 0
    for kind, *rest in draw(st.lists(kinds_of_event, max_size=40)):
        seq += draw(st.integers(0, 2))
        known_at = max(0, seq + draw(st.sampled_from([0, 0, 0, 0, 3])))
        row = level(seq, *rest) if kind == "level" else event(seq, kind)
        rows.append(row | {"known_at": known_at})
    return book_events(rows)


def _reference(log: BookLog, t: int) -> Book | None:
    """The definition, word by word: every row known at ``t``, in the order in which it was learned."""
    sides: dict[int, dict[int, int]] = {0: {}, 1: {}}
    known, newest = False, -1
    for known_at, seq, kind, side, price, size in zip(
        *(c.tolist() for c in (log.known_at, log.seq, log.kind, log.side, log.price, log.size)), strict=True
    ):
        if known_at > t:
            break
        if kind != 1 or seq < newest:
            sides = {0: {}, 1: {}}
            known = kind == 0 and seq >= newest
        elif known:
            sides[side][price] = size
        newest = max(newest, seq)
    book = Book.of(0, sides[0].items(), sides[1].items())
    return None if not known or book.crossed else book


@given(logs(), st.lists(st.integers(0, 90), max_size=8))
def test_the_replay_agrees_with_the_definition_at_any_time(rows: pa.Table, times: list[int]) -> None:
    log = book_log_from(rows)
    replay = BookReplay(log)
    for t in sorted(times):
        book, expected = replay.advance(at(t)), _reference(log, at(t))
        assert shown(book) == shown(expected)


@given(logs())
def test_quotes_agree_with_the_book_at_every_time(rows: pa.Table) -> None:
    log = book_log_from(rows)
    quotes = book_quotes(log)
    assert np.all(np.diff(quotes.known_at) >= 0)
    for t in sorted(set(log.known_at.tolist())):
        last, book = quotes.until(t).last(), _reference(log, t)
        touch = (last.bid, last.ask) if last else (None, None)
        assert touch == ((book.bid, book.ask) if book else (None, None))
