"""Anything at all in place of an answer: the real readings end with possible rows, or an error of the source.

The sandbox answers, and what it answers is changed at random places: fields are dropped, retyped, nested,
repeated, scaled to other units, or replaced by odd texts and huge numbers; or the whole answer is.
"""

import asyncio
import gzip
import json
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from pm_pipeline.errors import PipelineError
from pm_pipeline.markets import Market, Venue
from pm_pipeline.markets.clock import MINUTE, SECOND, day_of, parse_time
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.adapter import Selection
from pm_pipeline.sources.book_log import BOOKS
from pm_pipeline.sources.connect import AsgiApp, FillsFrom, open_adapter, open_fills
from pm_pipeline.sources.endings import ingest_resolutions
from pm_pipeline.sources.errors import SourceError
from pm_pipeline.sources.ingest import PRICES, TRADES, Outcome, ingest, snapshot_books
from pm_pipeline.sources.listings import CatalogRows
from pm_pipeline.sources.polymarket import PolymarketAdapter
from pm_pipeline.sources.polymarket.books.archives import import_files
from pm_pipeline.sources.polymarket.endings.resolutions import Asked
from pm_pipeline.sources.polymarket.onchain.fills import FILLS
from pm_pipeline.sources.polymarket.onchain.ingest import FileFills, ingest_fills
from pm_pipeline.sources.polymarket.wallets.rows import MarketIds
from pm_pipeline.sources.sandbox import World, build_app, generate_world, polygon
from pm_pipeline.sources.sandbox.data_trades import MAKERS
from pm_pipeline.sources.sandbox.plans import POLITICS_FEES, question_event
from pm_pipeline.sources.wallet_log import (
    ingest_activity,
    ingest_holders,
    ingest_leaderboard,
    ingest_positions,
)
from pm_pipeline.warehouse.conform import conform
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.schema import table
from pm_pipeline_tests.warehouse.builders import lake_at

Json: TypeAlias = Any
Change: TypeAlias = Callable[[Json], Json]

NOW: Final = parse_time("2026-04-26T12:00:00Z")
"""Before the subgraph froze, so that it tells of the markets too."""

TABLES: Final = (
    *("market_data.prices", "market_data.candles", "market_data.trades", "market_data.book_events"),
    *("market_data.wallet_fills", "market_data.wallet_activity", "market_data.wallet_positions"),
    *("market_data.holders", "market_data.leaderboard", "catalog.resolutions"),
    *("catalog.resolution_claims", "ops.coverage"),
)
PRICED: Final = ("price", "mid", "bid", "ask", "avg_price")
COUNTED: Final = ("size", "cash", "volume", "bought", "fee", "rank", "ordinal", "rows", "gaps")


@cache
def world() -> World:
    """Two small markets: one trades, one is over."""
    plans = [
        question_event(
            name,
            f"{name}?",
            opened="2026-04-26T00:00:00Z",
            closed=closed,
            category="Politics",
            fees=POLITICS_FEES,
        )
        for name, closed in (("open", "2026-04-27T00:00:00Z"), ("over", "2026-04-26T06:00:00Z"))
    ]
    return generate_world(5, [replace(plan, step=30 * MINUTE, trades_per_hour=1.0) for plan in plans], NOW)


def markets() -> list[Market]:
    """The two, as the catalog has them."""
    return [
        replace(each.market, traded_until=each.resolution.closed_at) for each in world().polymarket.values()
    ]


# ------------------------------------------------------------------ changes

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(
        [
            *("", " ", "NaN", "-NaN", "Infinity", "-inf", "sNaN", "1e999999999", "1e-999999999", "-0", "0x"),
            *("0.50000000000000000000000000001", "٣", "1_000", "+1", "0b1", "½", "\x00", "\U0001f600"),
            *("2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0000-00-00", "1970-01-01", "[]", "{}", '["1"'),
            *("null", "MA==", "0x" + "f" * 64, "0x" + "g" * 64, "0x" + "0" * 40, 2**63, 2**64, -1, 1e308),
        ]
    )
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
factors = st.sampled_from([-1, 0, 1000, 10**6, 10**9, 0.001])


def scaled(value: Json, factor: float) -> Json:
    """A number in other units, also one that is written as text."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        with suppress(ValueError, OverflowError):
            return str(scaled(json.loads(value), factor)) if math.isfinite(float(value)) else value
        return value[::-1]
    return value * factor if isinstance(value, int | float) else value


def retyped(value: Json, _: object) -> Json:
    """A number as text, text as a number, anything else as text."""
    if isinstance(value, str):
        with suppress(ValueError):
            return json.loads(value)
    return json.dumps(value)


def places(value: Json, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is something within a document, the whole first."""
    yield at
    if isinstance(value, dict | list):
        for name in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[name], (*at, name))


class Mutation(NamedTuple):
    """What is done to one place; ``place`` counts through all of the document, round and round."""

    how: str
    place: int
    value: Json

    def __call__(self, document: Json) -> Json:
        found = list(places(document))
        *above, last = ("", *found[self.place % len(found)])
        holder: Json = {"": deepcopy(document)}
        inner = holder
        for name in above:
            inner = inner[name]
        old = inner[last]
        if self.how == "drop":
            del inner[last]
        elif self.how == "twice" and isinstance(inner, list):
            inner.append(deepcopy(old))
        elif self.how == "nest":
            inner[last] = [old] if self.place % 2 else {"data": old}
        elif self.how in {"scale", "retype"}:
            inner[last] = (scaled if self.how == "scale" else retyped)(old, self.value)
        else:
            inner[last] = self.value
        return holder.get("")


mutations = st.builds(
    Mutation, st.sampled_from(["drop", "twice", "nest", "retype"]), st.integers(0, 5000), st.none()
) | st.one_of(
    st.builds(Mutation, st.just("scale"), st.integers(0, 5000), factors),
    st.builds(Mutation, st.just("put"), st.integers(0, 5000), anything),
    st.builds(Mutation, st.just("put"), st.just(0), anything),
)


def changed(steps: Sequence[Mutation], document: Json) -> Json:
    for step in steps:
        document = step(document)
    return document


class Spoiled:
    """The sandbox, with every answer of a path changed."""

    def __init__(self, app: AsgiApp, path: str, change: Change) -> None:
        self._app, self._path, self._change = app, path, change

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not fnmatch(scope.get("path", ""), self._path):
            await self._app(scope, receive, send)
            return
        start: list[Message] = []
        body = b""

        async def held(message: Message) -> None:
            nonlocal body
            if message["type"] == "http.response.start":
                start.append(message)
            else:
                body += message.get("body", b"")

        await self._app(scope, receive, held)
        # a number that JSON does not know is written as what a careless server writes: Infinity
        body = json.dumps(self._change(json.loads(body))).encode()
        headers = [pair for pair in start[0]["headers"] if pair[0] != b"content-length"]
        await send({**start[0], "headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})


# ------------------------------------------------------------------ readings

Read: TypeAlias = Callable[[Lake, AsgiApp], Awaitable[Sequence[Outcome]]]


def adapter_of(app: AsgiApp) -> Any:
    return open_adapter(Venue.POLYMARKET, "sandbox", sandbox_app=app, asked=Asked.ALL)


def crawl(**wanted: Any) -> Read:
    async def read(lake: Lake, app: AsgiApp) -> Sequence[Outcome]:
        rows = CatalogRows()
        async with adapter_of(app) as adapter:
            async for listing in adapter.get_listings(Selection(venue=Venue.POLYMARKET, **wanted)):
                for market in listing.markets:
                    assert len(market.instruments) >= 2
                    assert 0 < market.ticks[0].step <= market.ticks[0].end < MICRO
                    assert market.volume is None or market.volume >= 0
                rows.add(listing, NOW)
        for name, found in rows.tables().items():
            lake.write(name, day_of(NOW), found)
        return ()

    return read


def fed(name: str) -> Read:
    async def read(lake: Lake, app: AsgiApp) -> Sequence[Outcome]:
        async with adapter_of(app) as adapter:
            return await ingest(adapter, lake, name, markets())

    return read


async def books(lake: Lake, app: AsgiApp) -> Sequence[Outcome]:
    async with adapter_of(app) as adapter:
        return await snapshot_books(adapter, lake, markets())


async def ends(lake: Lake, app: AsgiApp) -> Sequence[Outcome]:
    async with adapter_of(app) as adapter:
        return await ingest_resolutions(adapter, lake, markets())


def of_wallets(name: str) -> Read:
    async def read(lake: Lake, app: AsgiApp) -> Sequence[Outcome]:
        ids = MarketIds.of(markets())
        async with adapter_of(app) as adapter:
            assert isinstance(adapter, PolymarketAdapter)
            wallets = adapter.wallets
            if name == "holders":
                return await ingest_holders(wallets, lake, markets(), NOW)
            if name == "leaderboard":
                return [await ingest_leaderboard(wallets, lake, day_of(NOW))]
            each = ingest_activity if name == "activity" else ingest_positions
            return await each(wallets, lake, [MAKERS[0]], ids, NOW)

    return read


def chain(how: FillsFrom) -> Read:
    async def read(lake: Lake, app: AsgiApp) -> Sequence[Outcome]:
        async with open_fills("sandbox", how, sandbox_app=app) as source:
            return await ingest_fills(source, lake, markets(), NOW)

    return read


def over_http(path: str, read: Read, unsaid: str = "") -> Callable[[Path, Change], None]:
    """The reading of the sandbox with its answers at ``path`` changed, and empty histories at ``unsaid``."""

    def run(folder: Path, change: Change) -> None:
        silent = Spoiled(build_app(world()), unsaid, lambda _: {"history": []})
        app = Spoiled(silent, path, change)
        lake = lake_at(folder)
        try:
            outcomes = asyncio.run(asyncio.wait_for(read(lake, app), 60))
        except SourceError:
            outcomes = ()
        assert all(isinstance(outcome.error, SourceError | None) for outcome in outcomes)
        require_possible(lake)

    return run


# ------------------------------------------------------------------ files


def in_files(name: str, valid: Json, write: Callable[[Path, Json], None]) -> Callable[[Path, Change], None]:
    """The import of a file of books, or the reading of one of logs, made of a changed document."""

    def run(folder: Path, change: Change) -> None:
        lake, file = lake_at(folder), folder / name
        try:
            write(file, change(valid()))
        except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError, KeyError):
            return  # no file can hold that
        with suppress(PipelineError):
            if "logs" in name:
                outcomes = asyncio.run(ingest_fills(FileFills(file), lake, markets(), NOW))
                assert all(isinstance(outcome.error, PipelineError | None) for outcome in outcomes)
            else:
                import_files(lake, [file], markets(), now=NOW)
        require_possible(lake)

    return run


def lines(path: Path, document: Json) -> None:
    items = document if isinstance(document, list) else [document]
    data = "\n".join(json.dumps(item, allow_nan=False) for item in items).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def frames() -> Json:
    token = markets()[0].instruments[0].token_id
    stamp = str(NOW // 1_000_000)
    level = {"price": "0.4", "size": "10"}
    return [
        {"event_type": "book", "asset_id": token, "timestamp": stamp, "bids": [level], "asks": []},
        {
            "event_type": "price_change",
            "timestamp": stamp,
            "price_changes": [{"asset_id": token, "side": "SELL", "price": "0.6", "size": "3"}],
        },
        {"event_type": "tick_size_change", "asset_id": token, "timestamp": stamp, "new_tick_size": "0.001"},
        {"event_type": "last_trade_price", "asset_id": token, "timestamp": stamp, "price": "0.5"},
    ]


def recording() -> Json:
    token = markets()[0].instruments[0].token_id
    told = [
        {"at": NOW + n, "connection": 1, "text": json.dumps(frame)} for n, frame in enumerate(frames(), 1)
    ]
    return [{"at": NOW, "connection": 1, "what": "open", "tokens": [token]}, *told]


def logs() -> Json:
    found = polygon.logs(world(), NOW // SECOND - polygon.GENESIS - 43_200, NOW // SECOND - polygon.GENESIS)
    return [
        log | {"blockTimestamp": hex(int(log["blockNumber"], 16) + polygon.GENESIS)}
        for log, _ in zip(found, range(12), strict=False)
    ]


STAMP: Final = datetime(2026, 4, 26, tzinfo=UTC)


def packed_rows() -> Json:
    token = markets()[0].instruments[0].token_id
    book = {"token_id": token, "bids": [["0.4", "10"]], "asks": [["0.6", "5"]]}
    step = {"token_id": token, "change_price": "0.41", "change_size": "2", "change_side": "BUY"}
    return [["book_snapshot", book], ["price_change", step], ["price_change", step]]


def packed_parquet(path: Path, document: Json) -> None:
    """PMXT before April 2026."""
    rows = [
        {
            "timestamp_received": STAMP + timedelta(seconds=n),
            "update_type": kind,
            "data": data if isinstance(data, str) else json.dumps(data, allow_nan=False),
        }
        for n, (kind, data) in enumerate(document)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def typed_rows() -> Json:
    token = markets()[0].instruments[0].token_id
    nothing: dict[str, Any] = dict.fromkeys(("bids", "asks", "price", "size", "side", "new_tick_size"))
    common = {"asset_id": token, **nothing}
    return [
        common | {"event_type": "book", "bids": '[["0.4","10"]]', "asks": '[["0.6","5"]]'},
        common | {"event_type": "price_change", "price": "0.41", "size": "2", "side": "BUY"},
        common | {"event_type": "tick_size_change", "new_tick_size": "0.001"},
    ]


def typed_parquet(path: Path, document: Json) -> None:
    """PMXT since April 2026; numbers as the files have them, or else as text."""
    rows = [
        {"timestamp_received": STAMP + timedelta(seconds=n + 1), "timestamp": STAMP + timedelta(seconds=n)}
        | row
        for n, row in enumerate(document)
    ]
    columns = pa.Table.from_pylist(rows)
    for name, kind in (
        ("price", pa.decimal128(12, 4)),
        ("size", pa.decimal128(24, 6)),
        ("new_tick_size", pa.decimal128(12, 4)),
    ):
        columns = columns.set_column(columns.schema.get_field_index(name), name, columns[name].cast(kind))
    pq.write_table(columns, path)


# ------------------------------------------------------------------ what may come of it


def require_possible(lake: Lake) -> None:
    """Every row that was stored keeps the rules of its table."""
    for name in (*TABLES, *CATALOG):
        for partition in lake.partitions(name):
            rows = conform(table(name), partition, lake.read(name, partition))
            rows.validate(full=True)
            columns = set(rows.column_names)
            # dust may trade above a dollar; the blocking check `fills_are_possible` looks at the rest
            for column in columns & {*PRICED} if name != FILLS else ():
                assert in_range(rows[column], MICRO), (name, column)
            for column in columns & {*COUNTED}:
                assert in_range(rows[column], None), (name, column)
            if {"ts", "known_at"} <= columns:
                assert pc.all(pc.greater_equal(rows["known_at"], rows["ts"])).as_py() is not False, name
            if "payouts" in columns:
                paid = [each for each in rows["payouts"].to_pylist() if each]
                assert all(sum(each) == MICRO and min(each) >= 0 for each in paid)


def in_range(values: pa.ChunkedArray, most: int | None) -> bool:
    span = pc.min_max(values).as_py()
    return span["min"] is None or (span["min"] >= 0 and (most is None or span["max"] <= most))


CATALOG: Final = ("catalog.markets", "catalog.instruments", "catalog.events", "catalog.market_groups")

SOURCES: Final[Mapping[str, Callable[[Path, Change], None]]] = {
    "events of Gamma": over_http("/events/keyset", crawl()),
    "markets of Gamma": over_http("/markets/keyset", crawl(min_volume=0, closes_from=1)),
    "prices of the CLOB": over_http("/prices-history", fed(PRICES)),
    "prices of the Data API": over_http("/v2/prices-history", fed(PRICES), unsaid="/prices-history"),
    "trades": over_http("/v2/trades", fed(TRADES)),
    "a book": over_http("/book", fed(BOOKS)),
    "books": over_http("/books", books),
    "ends by Gamma": over_http("/markets/keyset", ends),
    "one end by Gamma": over_http("/markets/[0-9]*", ends),
    "ends by the Data API": over_http("/v2/resolutions", ends),
    "ends by the CLOB": over_http("/markets/0x*", ends),
    "ends by the chain": over_http("/", ends),
    "activity": over_http("/v2/activity", of_wallets("activity")),
    "positions": over_http("/v2/positions", of_wallets("positions")),
    "holders": over_http("/v2/holders", of_wallets("holders")),
    "leaderboard": over_http("/v2/leaderboard", of_wallets("leaderboard")),
    "state of the Data API": over_http("/v2/status", fed(TRADES)),
    "fills of the subgraph": over_http("/api/*", chain(FillsFrom.GOLDSKY)),
    "fills of a node": over_http("/", chain(FillsFrom.NODE)),
    "fills of a file": in_files("logs.jsonl.gz", logs, lines),
    "frames": in_files("frames.jsonl", frames, lines),
    "a recording": in_files("recording.jsonl", recording, lines),
    "PMXT, packed": in_files("packed.parquet", packed_rows, packed_parquet),
    "PMXT, typed": in_files("typed.parquet", typed_rows, typed_parquet),
}
"""Every way in which an answer of the venue becomes rows."""


@pytest.mark.parametrize("name", SOURCES)
def test_the_answer_itself_gives_rows(name: str, tmp_path: Path) -> None:
    SOURCES[name](tmp_path, lambda document: document)
    lake = lake_at(tmp_path)
    assert sum(
        lake.read(stored, partition).num_rows
        for stored in (*TABLES[:-1], *CATALOG)
        for partition in lake.partitions(stored)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(steps=st.lists(mutations, min_size=1, max_size=3))
def test_any_answer_gives_possible_rows_or_an_error_of_the_source(
    name: str, steps: list[Mutation], tmp_path_factory: pytest.TempPathFactory
) -> None:
    SOURCES[name](tmp_path_factory.mktemp("fuzz"), partial(changed, steps))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a recording", lambda lines: [{**line, "at": line["at"] * 1000} for line in lines]),
        ("frames", lambda told: [{**frame, "timestamp": "9999999999999"} for frame in told]),
        ("PMXT, typed", lambda rows: [{**row, "side": {"data": row["side"]}} for row in rows]),
        ("PMXT, typed", lambda rows: [{**row, "bids": [row["bids"]]} for row in rows]),
        ("PMXT, typed", lambda rows: [{**row, "timestamp": 1776945600} for row in rows]),
    ],
)
def test_what_was_once_found_is_refused(name: str, change: Change, tmp_path: Path) -> None:
    SOURCES[name](tmp_path, change)
    lake = lake_at(tmp_path)
    assert [lake.read(BOOKS, key).num_rows for key in lake.partitions(BOOKS)] in ([], [0])
