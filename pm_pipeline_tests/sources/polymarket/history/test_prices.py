"""Price history: the ladder, the stamps, the payout, and what an empty answer may mean."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, SECOND, Nanos, format_time, to_nanos
from pm_pipeline.sources.adapter import Window
from pm_pipeline.sources.errors import BadResponse, QuietSourceError, SourceError, UnsupportedError
from pm_pipeline.sources.polymarket import PolymarketAdapter
from pm_pipeline.sources.polymarket.history.prices import Point, climb, expired, history
from pm_pipeline.sources.polymarket.history.retention import (
    KEPT_SINCE,
    LONGEST,
    ROLLING,
    RUNGS,
    pieces,
    promised,
)
from pm_pipeline.warehouse.asof import MarketData, view_of
from pm_pipeline.warehouse.schema import table
from pm_pipeline_tests.sources.polymarket.material import CLOSED, MARKET, NOW, OPENED, page, read, status
from pm_pipeline_tests.sources.server import Server, json_response

START, END = OPENED // SECOND, CLOSED // SECOND
WHOLE = Window(OPENED, CLOSED)
FINE, COARSE = RUNGS[0].seconds, RUNGS[3].seconds


def nanos(value: Any) -> int:
    return to_nanos(value)


def series(start: int, step: int, *, until: int = END) -> list[dict[str, Any]]:
    return [{"t": t, "p": 0.5} for t in range(start, until, step)]


def clob(by_fidelity: dict[int, Any]) -> Server:
    def answer(request: Request) -> Response:
        return json_response({"history": by_fidelity.get(int(request.query_params["fidelity"]), [])})

    return Server({"/prices-history": answer})


def prices(market: Any = MARKET, **servers: Any) -> list[dict[str, Any]]:
    return read(lambda adapter: adapter.get_prices(market), **servers)


def buckets(*points: tuple[int, float, int]) -> Any:
    """A Data API that has these points, each at its own fineness only; payouts come with every one."""

    def answer(request: Request) -> Response:
        asked = int(request.query_params["bucket_seconds"])
        start, end = (int(request.query_params[name]) for name in ("start", "end"))
        return json_response(
            page(
                [
                    {"timestamp": t, "price": p, "resolution_seconds": s}
                    for t, p, s in points
                    if s in (0, asked) and start <= t < end
                ]
            )
        )

    return answer


# what comes


def test_mid_points_of_both_outcomes_come_in_order_once_and_known_when_true() -> None:
    shuffled = [{"t": START + 60, "p": 0.2155}, {"t": START, "p": 0.2}, {"t": START + 60, "p": 0.2155}]
    rows = prices(clob=clob({1: shuffled}))
    assert [(r["outcome_index"], nanos(r["ts"]) - OPENED, r["mid"]) for r in rows] == [
        (0, 0, 200_000), (0, MINUTE, 215_500), (1, 0, 200_000), (1, MINUTE, 215_500),
    ]  # fmt: skip
    assert {r["known_at"] == r["ts"] for r in rows} == {True}
    assert {(r["resolution_s"], r["bid"], r["source"]) for r in rows} == {(60, None, "clob:/prices-history")}


def test_a_moment_with_two_prices_is_refused() -> None:
    with pytest.raises(BadResponse, match="two prices at 2026-07-10T00:00:00Z: 200000 and 300000"):
        prices(clob=clob({1: [{"t": START, "p": 0.2}, {"t": START, "p": 0.3}]}))


def test_windows_are_explicit_and_no_longer_than_fifteen_days() -> None:
    server = clob({1: series(START, 60)})
    prices(clob=server)
    assert server.asked[0][1] == {"market": "111", "startTs": str(START), "endTs": str(END), "fidelity": "1"}


@given(
    start=st.integers(0, 400 * DAY),
    length=st.integers(0, 400 * DAY),
)
def test_pieces_cover_a_window_once_and_none_crosses_a_promise(start: int, length: int) -> None:
    window = Window(NOW - start - length, NOW - start)
    found = pieces(window, NOW)
    if length:
        assert found[0].start == window.start // SECOND * SECOND
        assert found[-1].end == window.end
    for piece, following in pairwise(found):
        assert piece.end == following.start
    for piece in found:
        assert 0 < piece.end - piece.start <= LONGEST
        # a request in whole seconds is no longer than the venue allows
        assert -(-piece.end // SECOND) - piece.start // SECOND <= LONGEST // SECOND
        last = piece.end - 1
        assert promised(piece.start, NOW) == promised(last, NOW) or piece.end - piece.start <= SECOND


def test_of_the_time_before_the_venue_kept_prices_nothing_is_asked() -> None:
    window = Window(KEPT_SINCE - 100 * DAY, KEPT_SINCE + DAY)
    assert pieces(window, NOW) == [Window(KEPT_SINCE, KEPT_SINCE + DAY)]
    assert pieces(Window(0, KEPT_SINCE - DAY), NOW) == []


@pytest.mark.parametrize(
    ("age", "seconds"),
    [
        (0, 60), (7 * DAY - ROLLING, 60), (7 * DAY, 300), (60 * DAY - ROLLING, 300), (60 * DAY, 1800),
        (90 * DAY - ROLLING, 1800), (90 * DAY, 10_800), (900 * DAY, 10_800),
    ],
)  # fmt: skip
def test_the_promised_fineness_follows_the_age(age: Nanos, seconds: int) -> None:
    assert promised(NOW - age, NOW).seconds == seconds


def test_where_fine_history_has_expired_a_coarser_one_fills_the_part_before_it() -> None:
    middle = START + 24 * 3600
    served = clob({1: series(middle, 60), 5: series(START, 300)})
    rows = [r for r in prices(clob=served) if r["outcome_index"] == 0]
    times = [nanos(r["ts"]) // SECOND for r in rows]
    assert times == sorted(set(times))
    assert {r["resolution_s"] for r in rows if nanos(r["ts"]) // SECOND < middle} == {300}
    assert {r["resolution_s"] for r in rows if nanos(r["ts"]) // SECOND >= middle} == {60}
    assert times[0] == START


def test_an_empty_answer_asks_for_coarser_points_and_at_last_the_data_api() -> None:
    server = clob({})
    data = Server({"/v2/status": status(), "/v2/prices-history": page([])})
    assert prices(clob=server, data=data) == []
    assert [params["fidelity"] for _, params in server.asked] == ["1", "5", "30", "180", "720"] * 2
    asked = [p["bucket_seconds"] for path, p in data.asked if path.endswith("history")]
    assert asked == ["60", "300", "1800", "10800", "43200"] * 2


def test_points_outside_the_window_are_dropped() -> None:
    around = [
        {"t": START - 60, "p": 0.1},
        {"t": START, "p": 0.2},
        {"t": END, "p": 0.99},
        {"t": END + HOUR // SECOND, "p": 1},
    ]
    assert {r["mid"] for r in prices(clob=clob({1: around}))} == {200_000}


@pytest.mark.parametrize("payout", [0, 1, "1.0"])
def test_a_payout_is_no_price_at_whichever_source_and_whenever_it_comes(payout: Any) -> None:
    """A catalog that has not heard of the end asks up to now, and the venue says how it ended."""
    running = replace(MARKET, traded_until=None)
    after = END + 3600
    points = [*series(START, 60), *({"t": t, "p": payout} for t in (after, after + 60))]
    silent = {"/v2/prices-history": page([])}
    assert max(nanos(r["ts"]) for r in prices(running, clob=clob({1: points}), data=silent)) < CLOSED
    told = buckets((START, 0.5, 300), (after, float(payout), 300), (after + 60, float(payout), 0))
    rows = prices(running, clob=clob({}), data={"/v2/prices-history": told})
    assert {r["mid"] for r in rows} == {500_000}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "missing required field `history`"),
        ({"history": [{"t": START}]}, "missing required field `p`"),
        ({"history": [{"t": START, "p": 1.5}]}, "p is 1.5, not a price"),
        ({"history": [{"t": START * 1000, "p": 0.5}]}, "not a time in seconds"),
        ({"history": [{"t": "x", "p": 0.5}]}, r"history\[0\]\.t"),
    ],
)
def test_a_history_of_another_shape_is_refused(body: object, words: str) -> None:
    with pytest.raises(BadResponse, match=words):
        prices(clob={"/prices-history": body})


def test_a_bucket_that_was_not_asked_for_is_refused() -> None:
    wrong = page([{"timestamp": START, "price": 0.5, "resolution_seconds": 3600}])
    with pytest.raises(BadResponse, match="asked for 60 s a point, resolution_seconds is 3600"):
        prices(clob=clob({}), data={"/v2/prices-history": wrong})


def test_an_outcome_without_a_price_beside_one_that_has_some_is_no_answer() -> None:
    def yes_only(request: Request) -> Response:
        return json_response(
            {"history": series(START, 60) if request.query_params["market"] == "111" else []}
        )

    with pytest.raises(QuietSourceError, match="none of 'No', which shares its book"):
        prices(clob={"/prices-history": yes_only}, data={"/v2/prices-history": page([])})


def test_a_market_without_an_opening_has_no_window() -> None:
    with pytest.raises(SourceError, match="nobody says when"):
        read(lambda a: a.get_prices(replace(MARKET, opened_at=None)))


def test_the_window_of_an_open_market_ends_now_and_that_of_its_trades_ten_minutes_before() -> None:
    window = PolymarketAdapter.prices_window
    adapter: Any = PolymarketAdapter(gamma=None, clob=None, data=None)  # type: ignore[arg-type]
    running = replace(MARKET, traded_until=None)
    assert window(adapter, running, NOW) == Window(OPENED, NOW)
    assert window(adapter, MARKET, NOW) == Window(OPENED, CLOSED)
    assert window(adapter, MARKET, OPENED - DAY) == Window(OPENED, OPENED)
    assert adapter.window("market_data.prices", running, NOW) == Window(OPENED, NOW)
    assert adapter.window("market_data.trades", running, NOW) == Window(OPENED, NOW - 10 * MINUTE)
    assert adapter.window("market_data.trades", MARKET, NOW) == Window(OPENED, CLOSED)
    assert adapter.window("market_data.trades", MARKET, OPENED) == Window(OPENED, OPENED)


def test_there_are_no_candles() -> None:
    with pytest.raises(UnsupportedError, match="no candlesticks"):
        read(lambda a: a.get_candles(MARKET))


# the stamp of a bucket


@pytest.mark.parametrize(("seconds", "age"), [(60, 4), (300, 20), (1800, 80), (10_800, 200)])
@pytest.mark.parametrize("stamped", ["begin", "end"])
def test_no_view_shows_a_bucket_before_its_end_whichever_end_is_stamped(
    seconds: int, age: int, stamped: str
) -> None:
    """The venue had a price at a moment; the bucket's stamp is its begin or its end, and we cannot tell."""
    seen = START // seconds * seconds + 5 * seconds + seconds // 2
    begin = seen // seconds * seconds
    stamp = begin if stamped == "begin" else begin + seconds
    told = {"/v2/status": status(OPENED + age * DAY), "/v2/prices-history": buckets((stamp, 0.25, seconds))}
    rows = prices(clob=clob({}), data=told)
    data = MarketData.of_tables(
        MARKET,
        {
            "market_data.prices": pa.Table.from_pylist(
                [{**row, "ts": row["ts"]} for row in rows], schema=table("market_data.prices").arrow
            )
        },
    )
    # the latest moment at which the price in the bucket may have been made
    end = (begin + seconds) * SECOND
    for early in (seen * SECOND, end - SECOND, end - 1000):
        assert len(view_of(data, early).quotes(0)) == 0
    shown = view_of(data, end + seconds * SECOND).quotes(0)
    assert shown.mid.tolist() == [250_000]
    assert int(shown.ts[0]) == int(shown.known_at[0]) >= end  # neither are orders filled at it before


def test_a_bucket_that_may_reach_beyond_the_close_or_beyond_now_is_left_out() -> None:
    points = [(END - 600, 0.2, 300), (END - 300, 0.9, 300)]
    rows = prices(clob=clob({}), data={"/v2/prices-history": buckets(*points)})
    assert {(nanos(r["ts"]) // SECOND, r["mid"]) for r in rows} == {(END - 300, 200_000)}


# what an empty answer means


def source(points: Iterable[Nanos], *, lost: Iterable[int] = (), holes: Sequence[Window] = ()) -> Any:
    """A venue that saw a mid at these times; it answers at each fineness with the last of each span, but for
    the ``lost`` ones, and in the finest answer for what lies in ``holes``."""
    seen, missing = sorted(points), set(lost)
    asked: list[tuple[Window, int]] = []

    async def ask(window: Window, seconds: int) -> list[Point]:
        asked.append((window, seconds))
        spans = {ts // (seconds * SECOND): ts for ts in seen if window.start <= ts < window.end}
        return [
            Point(ts, ts, 500_000, seconds, "told")
            for ts in sorted(spans.values())
            if seconds not in missing
            and not (seconds == FINE and any(hole.start <= ts < hole.end for hole in holes))
        ]

    return ask, asked


def climbed(ask: Any, piece: Window, now: Nanos) -> list[Point]:
    return asyncio.run(climb(ask, piece, piece, now))


@pytest.mark.parametrize(
    ("age", "lost", "words"),
    [
        (DAY, (60,), r"\(300 s a point\)"),
        (DAY, (60, 300), r"\(1800 s a point\)"),
        (30 * DAY, (60, 300), r"\(1800 s a point\)"),
        (30 * DAY, (60, 300, 1800), r"\(10800 s a point\)"),
        (80 * DAY, (60, 300, 1800), r"\(10800 s a point\)"),
        (300 * DAY, (60, 300, 1800, 10_800), r"\(43200 s a point\)"),
        (30 * DAY, (60,), None),
        (80 * DAY, (60, 300), None),
        (300 * DAY, (60, 300, 1800), None),
    ],
)
def test_an_empty_answer_is_believed_only_beyond_the_promise(
    age: Nanos, lost: tuple[int, ...], words: str | None
) -> None:
    piece = Window(NOW - age, NOW - age + 20 * HOUR)
    ask, asked = source(range(piece.start, piece.end, MINUTE), lost=lost)
    if words:
        with pytest.raises(QuietSourceError, match=words):
            climbed(ask, piece, NOW)
    else:
        found = climbed(ask, piece, NOW)
        assert {point.seconds for point in found} == {promised(piece.start, NOW).seconds}
        assert [seconds for _, seconds in asked] == [60, 300, 1800, 10_800][: len(lost) + 1]


def test_a_fineness_beyond_its_promise_is_taken_where_it_still_is() -> None:
    piece = Window(NOW - 40 * DAY, NOW - 40 * DAY + 20 * HOUR)
    ask, asked = source(range(piece.start, piece.end, MINUTE))
    assert {point.seconds for point in climbed(ask, piece, NOW)} == {60}
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("hole", "noticed"),
    [
        ((30, 44), False),  # shorter than what the witness can tell
        ((100, 400), True),
        ((900, 1200), True),  # at the end: nothing came after
        ((0, 400), True),  # at the begin
    ],
)
def test_a_hole_in_an_answer_is_held_against_the_next_rung(hole: tuple[int, int], noticed: bool) -> None:
    piece = Window(NOW - 20 * HOUR, NOW)
    gap = Window(*(piece.start + minute * MINUTE for minute in hole))
    ask, _ = source(range(piece.start, piece.end, MINUTE), holes=[gap])
    if noticed:
        with pytest.raises(QuietSourceError, match="the source contradicts itself"):
            climbed(ask, piece, NOW)
    else:
        assert climbed(ask, piece, NOW)


def test_a_hole_that_every_rung_has_is_a_book_that_was_empty_and_costs_one_request() -> None:
    piece = Window(NOW - 20 * HOUR, NOW)
    seen = [ts for ts in range(piece.start, piece.end, MINUTE) if not 5 <= (ts - piece.start) // HOUR < 11]
    ask, asked = source(seen)
    assert len(climbed(ask, piece, NOW)) == 14 * 60
    assert [seconds for _, seconds in asked] == [60, 300]


@given(seen=st.sets(st.integers(0, 1199), max_size=60), age=st.integers(0, 200))
def test_a_venue_that_tells_the_truth_is_never_suspected(seen: set[int], age: int) -> None:
    piece = Window(NOW - age * DAY - 20 * HOUR, NOW - age * DAY)
    cut = pieces(piece, NOW)
    kept = tuple(rung.seconds for rung in RUNGS if NOW - piece.start > rung.kept)
    ask, _ = source((piece.start + minute * MINUTE for minute in seen), lost=kept)

    async def run() -> list[Point]:
        return await history(ask, ask, piece, piece, NOW)

    found = asyncio.run(run())
    assert bool(found) == bool(seen)
    finest = next(rung.seconds for rung in RUNGS if rung.seconds not in kept)
    spans = {(piece.start + minute * MINUTE) // (finest * SECOND) for minute in seen}
    assert len(found) >= len(spans)
    assert len(cut) >= 1


def test_one_source_tells_all_of_an_outcome() -> None:
    """Where the CLOB has nothing at all the Data API stands in; of a part it is a witness."""
    whole = Window(NOW - 400 * DAY, NOW - 360 * DAY)
    first, *_ = pieces(whole, NOW)
    everything = range(whole.start, whole.end, HOUR)
    full, _ = source(everything)
    nothing, _ = source(())
    half, _ = source(ts for ts in everything if ts >= first.end)

    async def run(clob: Any, data: Any) -> list[Point]:
        return await history(clob, data, whole, whole, NOW)

    assert len(asyncio.run(run(nothing, full))) == len(everything)
    with pytest.raises(QuietSourceError, match="contradicts itself"):
        asyncio.run(run(half, full))
    quiet = asyncio.run(run(half, half))
    assert min(point.ts for point in quiet) == first.end


# what the venue no longer keeps


def test_what_has_expired_is_told_by_part_and_fineness() -> None:
    rows = pa.Table.from_pylist(
        [
            {"ts": OPENED // 1000 + n * 1_000_000, "resolution_s": seconds, "source": "clob:/prices-history"}
            for n, seconds in enumerate((10_800, 10_800, 300, 60))
        ],
        schema=pa.schema(
            [("ts", pa.timestamp("us", "UTC")), ("resolution_s", pa.int32()), ("source", "string")]
        ),
    )
    assert expired(rows, OPENED) == (
        "a point each 5 minutes from 2026-07-10T00:00:02Z to 2026-07-10T00:00:02Z, finer ones expired; "
        "a point each 180 minutes from 2026-07-10T00:00:00Z to 2026-07-10T00:00:01Z, finer ones expired"
    )
    assert expired(rows.slice(3), OPENED) == ""
    assert expired(rows.slice(3), KEPT_SINCE - 1) == (
        f"the venue keeps no prices from before {format_time(KEPT_SINCE)}"
    )
