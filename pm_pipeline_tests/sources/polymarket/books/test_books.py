"""Present books, one or many at a time: missing is not empty, and each bears its hash."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Instrument, Market
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.adapter import Selection
from pm_pipeline.sources.book_log import BOOKS
from pm_pipeline.sources.connect import SourceMode, open_adapter, open_market_channel
from pm_pipeline.sources.drift import DriftError
from pm_pipeline.sources.errors import BadResponse, SourceError
from pm_pipeline.sources.ingest import snapshot_books
from pm_pipeline.sources.polymarket.books import clob
from pm_pipeline.sources.sandbox import build_app
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.small_world import load_world
from pm_pipeline_tests.sources.polymarket.material import MARKET
from pm_pipeline_tests.sources.server import client_of

SAMPLES = SHARED / "samples" / "polymarket" / "clob_book"


def answer(token: str, **changes: Any) -> dict[str, Any]:
    """A book as the venue prints it: worst levels first, and its hash."""
    body = {
        "market": "0x1",
        "asset_id": token,
        "timestamp": "1780000000000",
        "hash": "",
        "bids": [{"price": "0.3", "size": "5"}, {"price": "0.4", "size": "10"}],
        "asks": [{"price": "0.9", "size": "1"}, {"price": "0.6", "size": "2.5"}],
        "min_order_size": "5",
        "tick_size": "0.01",
        "neg_risk": False,
        "last_trade_price": "0.4",
        **changes,
    }
    return body | {"hash": clob.book_hash(body)}


def ask(
    tokens: Sequence[str], answers: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], list[list[str]]]:
    """What is made of the answers, and the tokens of each request."""
    requests: list[list[str]] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked = [row["token_id"] for row in json.loads(request.content)]
        requests.append(asked)
        found = [body for body in answers if body["asset_id"] in asked or "stray" in body]
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(found).encode()))

    async def run() -> dict[str, Any]:
        async with client_of(httpx.MockTransport(reply)) as client:
            return await clob.order_books(client, tokens)

    return asyncio.run(run()), requests


def test_many_books_come_in_any_order_and_some_not_at_all() -> None:
    tokens = [str(number) for number in range(1001)]
    answers = [answer(token) for token in reversed(tokens) if token not in {"0", "700"}]
    books, requests = ask(tokens, answers)
    assert [len(asked) for asked in requests] == [500, 500, 1]
    assert set(tokens) - set(books) == {"0", "700"}
    book, _ = books["3"]
    assert [(level.price, level.size) for level in book.bids] == [(400_000, 10 * MICRO), (300_000, 5 * MICRO)]
    assert [level.price for level in book.asks] == [600_000, 900_000]


def test_an_empty_book_is_one() -> None:
    books, _ = ask(["1", "2"], [answer("1", bids=[], asks=[])])
    assert set(books) == {"1"}
    assert books["1"][0].bids == books["1"][0].asks == ()


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([{**answer("1"), "hash": "0" * 40}], "does not have its hash '0000"),
        ([{**answer("1"), "bids": [{"price": "0.4", "size": "10"}]}], "does not have its hash"),
        ([answer("1"), answer("1")], "comes twice"),
        ([answer("9") | {"stray": 1}], "was not asked for"),
    ],
)
def test_a_book_that_cannot_be_is_refused(answers: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(BadResponse, match=message):
        ask(["1"], answers)


def test_an_older_form_whose_hash_is_not_known_is_read_unchecked_and_a_newer_one_is_drift() -> None:
    older = {name: value for name, value in answer("1").items() if name != "tick_size"} | {"hash": "x"}
    assert clob.book_hash(older) is None
    assert clob.to_book(older, "1").bids[0].price == 400_000
    with pytest.raises(DriftError, match=r"BookAnswer\.a_new_field"):
        clob.to_book({**answer("1"), "a_new_field": 1}, "1")


@needs_shared
def test_every_recorded_book_of_since_july_2025_has_its_hash() -> None:
    lines = (SAMPLES / "books_batch_2026-03-11_run1.jsonl").read_text().splitlines()
    bodies = [body for line in lines for body in json.loads(line)["books"]]
    bodies += [json.loads(path.read_text()) for path in sorted(SAMPLES.glob("pmvl_*.json"))]
    assert len(bodies) == 62
    assert [body["hash"] for body in bodies] == [clob.book_hash(body) for body in bodies]


@needs_shared
def test_recorded_books_of_both_tokens_are_mirrors() -> None:
    pairs = 0
    for line in (SAMPLES / "books_batch_2026-03-11_run1.jsonl").read_text().splitlines():
        batch = json.loads(line)
        books = {body["asset_id"]: clob.to_book(body, body["asset_id"]) for body in batch["books"]}
        asked = batch["requested_token_ids"]
        assert [body["asset_id"] for body in batch["books"]] != asked
        for yes, no in zip(asked[::2], asked[1::2], strict=True):
            mirrored = [(MICRO - level.price, level.size) for level in books[no].asks]
            assert [(level.price, level.size) for level in books[yes].bids] == mirrored
            pairs += 1
    assert pairs == 30


@pytest.mark.parametrize("venue", [Venue.POLYMARKET, Venue.KALSHI])
def test_snapshots_of_many_markets_are_the_worlds(venue: Venue, tmp_path: Path) -> None:
    lake = Lake(tmp_path, durability="rename")

    async def run() -> tuple[list[Market], list[str]]:
        async with open_adapter(venue, "sandbox", sandbox_app=build_app(load_world())) as adapter:
            pages = adapter.get_markets(Selection(venue=venue))
            markets = [market async for page in pages for market in page]
            return markets, [outcome.market_key for outcome in await snapshot_books(adapter, lake, markets)]

    markets, read = asyncio.run(run())
    assert sorted(read) == [parts[0] for parts in lake.partitions(BOOKS)]
    open_ = {str(market.key) for market in markets if market.traded_until is None}
    assert open_ <= set(read) or venue is Venue.KALSHI
    if venue is Venue.POLYMARKET:  # what was resolved has no book, which is not an empty one
        assert set(read) == open_


def test_the_archive_holds_no_frames() -> None:
    async def run() -> None:
        async with open_market_channel(SourceMode.ARCHIVE):
            raise AssertionError("it was opened")

    with pytest.raises(UsageError, match="archive"):
        asyncio.run(run())


def test_a_market_without_a_token_is_named(tmp_path: Path) -> None:
    bare = replace(MARKET, instruments=(Instrument(MARKET.key, 0, "Yes"),))

    async def run() -> None:
        async with open_adapter(Venue.POLYMARKET, "sandbox", sandbox_app=build_app(load_world())) as adapter:
            await snapshot_books(adapter, Lake(tmp_path), [bare])

    with pytest.raises(SourceError, match="has no token id; fetch its catalog entry again"):
        asyncio.run(run())
