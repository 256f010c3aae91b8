"""Price history of an outcome: two sources, one ladder of finenesses, and what an empty answer means.

The CLOB is read first. Its points are single mid points at the second they were seen, so they are known when
they are true; those of the Data API stand for buckets, of which only the stamp of the begin is told. The
recorded sets also show the CLOB to keep fine points for longer than is promised. The Data API is read where
the CLOB has nothing at all, and asked as a witness where it has nothing of a part.

Nothing is taken for empty unless it must be: see :func:`climb`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.markets.clock import SECOND, Nanos, format_time
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.sources.adapter import Window
from pm_pipeline.sources.errors import BadResponse, QuietSourceError
from pm_pipeline.sources.http import HttpClient, Params
from pm_pipeline.sources.polymarket.data import pages, record
from pm_pipeline.sources.polymarket.history.retention import KEPT_SINCE, RUNGS, Rung, pieces, promised
from pm_pipeline.sources.polymarket.wire import History, PricePoint
from pm_pipeline.sources.wire import convert, price, unix_seconds

CLOB: Final = "/prices-history"
DATA: Final = "/v2/prices-history"

_PAGE: Final = 10_000


class Point(NamedTuple):
    """One point of a history. ``seconds`` is the fineness that was asked for; the CLOB's are observations."""

    ts: Nanos
    known_at: Nanos
    mid: Micro
    seconds: int
    source: str


Ask: TypeAlias = Callable[[Window, int], Awaitable[list[Point]]]
"""One answer of a source: its points within a window at so many seconds per point, in order of time."""


async def history(clob: Ask, data: Ask, window: Window, whole: Window, now: Nanos) -> list[Point]:
    """The points of one outcome within ``window``, each part at the finest that is still kept.

    ``whole`` is the time in which the market traded; nothing is quoted outside of it. The points come from
    one source: the CLOB, or where it has none at all, the Data API.

    Raises
    ------
    QuietSourceError
        when an answer is empty where another one shows that it cannot be.
    """
    cut = pieces(window, now)
    found = [await climb(clob, piece, whole, now) for piece in cut]
    if not any(found):
        found = [await climb(data, piece, whole, now) for piece in cut]
    else:
        for piece, points in zip(cut, found, strict=True):
            if not points:
                rung = promised(piece.start, now)
                _require_none(await data(piece, rung.seconds), [piece], rung, whole)
    return [point for points in found for point in points if window.start <= point.ts < window.end]


async def climb(ask: Ask, piece: Window, whole: Window, now: Nanos) -> list[Point]:
    """The points of ``piece`` (see :func:`retention.pieces`), coarser ones where the finer ones begin late.

    What is finer than the promise may have expired: an empty answer is an answer. At the promised fineness
    it is not where a coarser rung has points: then the source contradicts itself, and nothing is believed.
    Holes within an answer are held against one of the next rung.
    """
    due = promised(piece.start, now)
    found: list[Point] = []
    left = piece
    for rung, coarser in zip(RUNGS, (*RUNGS[1:], None), strict=True):
        points = await ask(left, rung.seconds)
        if rung.seconds > due.seconds:
            _require_none(points, [left], rung, whole)
        found = points + found
        left = Window(left.start, points[0].ts if points else left.end)
        if coarser is None or left.end - left.start <= (coarser.seconds * SECOND if found else 0):
            break
    if found:
        await _witness(ask, found, piece, whole, now)
    return found


async def _witness(ask: Ask, found: Sequence[Point], piece: Window, whole: Window, now: Nanos) -> None:
    """Ask coarser rungs whether the holes in an answer are really empty: one request for each fineness."""
    ends = [*(point.ts for point in found[1:]), piece.end]
    holes: dict[Rung, list[Window]] = {}
    for point, end in zip(found, ends, strict=True):
        rung = next((r for r in RUNGS if r.seconds > point.seconds and now - point.ts <= r.kept), None)
        gap = Window(point.ts + 1, end)
        if rung is not None and _inner(gap, rung, whole):
            holes.setdefault(rung, []).append(gap)
    for rung, gaps in holes.items():
        _require_none(await ask(piece, rung.seconds), gaps, rung, whole)


def _inner(gap: Window, rung: Rung, whole: Window) -> Window | None:
    """The part of a gap in which no coarser point may lie, or ``None``.

    A coarser point may be stamped with either end of its bucket, and so stand up to two buckets after what
    was seen before the gap, or one before what was seen after it. Nothing is seen outside of ``whole``.
    """
    length = rung.seconds * SECOND
    start = gap.start + (2 * length if gap.start > whole.start else 0)
    end = gap.end - (length if gap.end < whole.end else 0)
    return Window(start, end) if start < end else None


def _require_none(points: Iterable[Point], gaps: Sequence[Window], rung: Rung, whole: Window) -> None:
    inner = [part for gap in gaps if (part := _inner(gap, rung, whole))]
    for point in points:
        for part in inner:
            if part.start <= point.ts < part.end:
                raise QuietSourceError(
                    f"{point.source} has a price at {format_time(point.ts)} ({rung.seconds} s a point), "
                    f"where a finer answer that must still be kept is empty from {format_time(part.start)} "
                    f"to {format_time(part.end)}; the source contradicts itself. Nothing was written"
                )


def clob_history(client: HttpClient, token_id: str) -> Ask:
    """Mid points as the CLOB saw them: each is known when it is true."""

    async def ask(window: Window, seconds: int) -> list[Point]:
        params: Params = {
            "market": token_id,
            "startTs": max(window.start // SECOND, 1),
            "endTs": -(-window.end // SECOND),
            "fidelity": seconds // 60,
        }
        history = convert(await client.get(CLOB, params), History, CLOB).history
        mids = _at_most_one(
            (unix_seconds(point.t, CLOB, "t"), price(point.p, CLOB, "p", "half_even")) for point in history
        )
        return _points(mids, window, seconds, f"clob:{CLOB}", later=0)

    return ask


def data_history(client: HttpClient, token_id: str) -> Ask:
    """Buckets of the Data API, each taken for known at its end.

    The venue's reference has the stamp for the begin, which the one recorded answer cannot confirm. One
    bucket later is right for that, and late should it be the end; no price is shown before it was known.
    """

    async def ask(window: Window, seconds: int) -> list[Point]:
        later = seconds * SECOND
        params: Params = {
            "token_id": token_id,
            "start": max((window.start - later) // SECOND, 1),
            "end": max(-(-(window.end - later) // SECOND), 2),
            "bucket_seconds": seconds,
            "limit": _PAGE,
        }
        rows: list[PricePoint] = []
        async for page in pages(client, DATA, params):
            rows += [record(row, PricePoint, DATA) for row in page]
        for row in rows:
            if row.resolution_seconds not in (0, seconds):
                raise BadResponse(
                    f"{DATA}: asked for {seconds} s a point, resolution_seconds is {row.resolution_seconds}"
                )
        mids = _at_most_one(
            (unix_seconds(row.timestamp, DATA, "timestamp"), price(row.price, DATA, "price", "half_even"))
            for row in rows
            if row.resolution_seconds
        )
        return _points(mids, window, seconds, f"data:{DATA}", later=later)

    return ask


def _points(
    mids: Mapping[Nanos, Micro], window: Window, seconds: int, source: str, *, later: Nanos
) -> list[Point]:
    """Points within ``window``. One of exactly 0 or 1 is a payout: half-way between a bid and an offer lies
    at least half a tick inside."""
    return [
        Point(ts + later, ts + later, mids[ts], seconds, source)
        for ts in sorted(mids)
        if window.start <= ts + later < window.end and 0 < mids[ts] < MICRO
    ]


def _at_most_one(points: Iterable[tuple[Nanos, Micro]]) -> dict[Nanos, Micro]:
    found: dict[Nanos, Micro] = {}
    for ts, mid in points:
        if found.setdefault(ts, mid) != mid:
            raise BadResponse(f"the price history has two prices at {format_time(ts)}: {found[ts]} and {mid}")
    return found


def expired(rows: pa.Table, opened_at: Nanos | None) -> str:
    """What of a history the venue no longer keeps, in words; empty where it is whole."""
    told = []
    if opened_at is not None and opened_at < KEPT_SINCE:
        told.append(f"the venue keeps no prices from before {format_time(KEPT_SINCE)}")
    for rung in RUNGS[1:]:
        ts = rows.filter(pc.equal(rows["resolution_s"], rung.seconds))["ts"].cast("int64")
        if len(ts):
            first, last = (format_time(int(end.as_py()) * 1000) for end in (pc.min(ts), pc.max(ts)))
            told.append(
                f"a point each {rung.seconds // 60} minutes from {first} to {last}, finer ones expired"
            )
    if f"data:{DATA}" in rows["source"].unique().to_pylist():
        told.append("the CLOB has no prices: buckets of the Data API stand in")
    return "; ".join(told)


async def rows_of(
    points: Sequence[Point], common: Mapping[str, Any], size: int = 20_000
) -> AsyncIterator[list[dict[str, Any]]]:
    """The points as rows of ``market_data.prices``, so many at a time."""
    for start in range(0, len(points), size):
        yield [
            {
                "ts": point.ts,
                "known_at": point.known_at,
                "mid": point.mid,
                "resolution_s": point.seconds,
                "source": point.source,
                **common,
            }
            for point in points[start : start + size]
        ]
