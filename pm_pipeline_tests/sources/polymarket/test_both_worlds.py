"""What holds of the recorded samples holds of the sandbox's answers: the same assertions over both."""

import asyncio
import gzip
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache
from itertools import pairwise
from statistics import median
from typing import Any, Final

import httpx
import msgspec
import pytest

from pm_pipeline.markets.market import Market
from pm_pipeline.markets.units import MICRO, from_micro
from pm_pipeline.sources.polymarket.books import clob
from pm_pipeline.sources.polymarket.books.clob import book_hash, stated_hash
from pm_pipeline.sources.polymarket.catalog.records import (
    children_of,
    gamma_event,
    to_event,
    to_groups,
    to_market,
    unlisted,
)
from pm_pipeline.sources.polymarket.history import trades
from pm_pipeline.sources.polymarket.wire import History, PricePoint, ResolutionRow, TradeRow
from pm_pipeline.sources.sandbox import build_app, generate_world
from pm_pipeline.sources.wire import convert
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.sources.polymarket.catalog.gamma_samples import SAMPLES, read_events

FOLDER: Final = SHARED / "samples" / "polymarket"
_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)
HOSTS: Final = {"gamma": "gamma-api", "clob": "clob", "data": "data-api"}

Answers = Callable[[], Iterator[Any]]


def recorded(*names: str) -> Answers:
    """The documents of some samples, decoded as the client decodes."""

    def read() -> Iterator[Any]:
        for name in names:
            body = (FOLDER / name).read_bytes()
            body = gzip.decompress(body) if name.endswith(".gz") else body
            for line in body.splitlines() if "jsonl" in name else [body]:
                yield _DECODER.decode(line)

    return read


@cache
def asked(host: str, path: str, **params: str) -> Any:
    """What the sandbox's default world answers."""

    async def ask() -> bytes:
        transport = httpx.ASGITransport(build_app(generate_world()))
        async with httpx.AsyncClient(
            transport=transport, base_url=f"https://{HOSTS[host]}.polymarket.com"
        ) as client:
            return (await client.get(path, params=params)).raise_for_status().content

    return _DECODER.decode(asyncio.run(ask()))


def tokens() -> list[str]:
    """YES tokens of markets that trade."""
    markets = asked("gamma", "/markets/keyset", closed="false", limit="100")["markets"]
    return [_DECODER.decode(row["clobTokenIds"])[0] for row in markets if row["active"]]


def sandbox_books() -> Iterator[Any]:
    for token in tokens()[:10]:
        yield asked("clob", "/book", token_id=token)


def sandbox_events() -> Iterator[Any]:
    for closed in ("false", "true"):
        yield from asked("gamma", "/events/keyset", closed=closed, limit="100")["events"]


def recorded_events() -> Iterator[Any]:
    for name in SAMPLES:
        yield from read_events(name)


def sandbox_rows(path: str, **params: str) -> Answers:
    return lambda: iter([asked("data", path, **params)])


def sandbox_prices() -> Iterator[Any]:
    yield asked("data", "/v2/prices-history", token_id=tokens()[0], interval="1d", bucket_seconds="60")


def recorded_books() -> Iterator[Any]:
    single = recorded("clob_book/pmvl_book_2026-07-25.json", "clob_book/pmvl_ext_book_2026-08-09.json")
    yield from single()
    for line in recorded("clob_book/books_batch_2026-03-11_run1.jsonl")():
        yield from line["books"]


def recorded_histories() -> Iterator[Any]:
    [document] = recorded("prices_history/nyc_no_tokens_1min_2026-08-12.json")()
    for bucket in document.values():
        yield {"history": bucket["no_history"]}


def sandbox_histories() -> Iterator[Any]:
    for token in tokens()[:5]:
        yield asked("clob", "/prices-history", market=token, interval="1d", fidelity="1")


def sandbox_resolutions() -> Iterator[Any]:
    events = [row["id"] for row in sandbox_events()]
    for event in events[:20]:
        yield asked("data", "/v2/resolutions", event_id=event)


def both(samples: Answers, sandbox: Answers) -> pytest.MarkDecorator:
    """The same test over the samples and over the sandbox."""
    return pytest.mark.parametrize(
        "answers",
        [pytest.param(samples, marks=needs_shared, id="samples"), pytest.param(sandbox, id="sandbox")],
    )


@both(recorded_events, sandbox_events)
def test_an_event_names_its_markets_and_its_groups_exclude(answers: Answers) -> None:
    listed = placeholders = grouped = 0
    for row in answers():
        event = gamma_event(row, "/e")
        children = children_of(event, "/e")
        told = to_event(event, children, "/e")
        assert len(told.market_keys) + told.placeholders == len(row["markets"])
        for group in to_groups(event, children, "/e"):
            assert group.exclusive
            assert set(group.market_keys) <= set(told.market_keys)
            grouped += 1
        for child in children:
            if unlisted(child) is None:
                require_market(to_market(child, "/m"))
        listed += len(told.market_keys)
        placeholders += told.placeholders
    assert min(listed, placeholders, grouped) > 0


def require_market(market: Market) -> None:
    assert len(market.instruments) == 2
    assert market.opened_at is not None
    assert market.traded_until is None or market.traded_until > market.opened_at
    assert market.condition_id is not None
    assert len(market.condition_id) == 66
    assert all((instrument.token_id or "").isdecimal() for instrument in market.instruments)


@both(recorded_books, sandbox_books)
def test_a_book_has_its_hash_and_the_best_level_last(answers: Answers) -> None:
    hashed = 0
    for body in answers():
        book = clob.to_book(body, body["asset_id"])
        assert not book.crossed
        assert (len(book.bids), len(book.asks)) == (len(body["bids"]), len(body["asks"]))
        if body["bids"] and body["asks"]:
            best = (Decimal(body["bids"][-1]["price"]), Decimal(body["asks"][-1]["price"]))
            assert (from_micro(book.bid or 0), from_micro(book.ask or 0)) == best
        hashed += book_hash(body) is not None and book_hash(body) == stated_hash(body)
    assert hashed > 5


@both(recorded_histories, sandbox_histories)
def test_a_history_holds_mid_points_in_order_a_minute_apart(answers: Answers) -> None:
    for body in answers():
        points = convert(body, History, "/h").history
        stamps = [point.t for point in points]
        assert len(points) > 5
        assert stamps == sorted(set(stamps))
        assert 55 <= median(after - before for before, after in pairwise(stamps)) <= 65
        assert all(0 < point.p < 1 for point in points)


@both(
    recorded("data_api_v2/trades_global_2026-09-14.json"),
    sandbox_rows("/v2/trades", limit="100", filter_amount="0"),
)
def test_a_trade_has_its_ids_and_its_price_lies_within_a_dollar(answers: Answers) -> None:
    for body in answers():
        assert set(body["pagination"]) >= {"has_more", "next_cursor"}
        for row in (convert(each, TradeRow, "/t") for each in body["data"]):
            assert row.side in trades._SIDES
            assert 0 <= row.price <= 1
            assert row.size > 0
            assert len(row.condition_id) == 66
            assert row.transaction_hash.startswith("0x")
            assert row.proxy_wallet.startswith("0x")
        assert body["data"]


@both(recorded("data_api_v2/prices_history_2026-09-14.json"), sandbox_prices)
def test_a_bucket_says_how_long_it_is(answers: Answers) -> None:
    for body in answers():
        points = [convert(each, PricePoint, "/p") for each in body["data"]]
        assert points
        assert {point.resolution_seconds for point in points} <= {60, 0}
        assert all(0 <= point.price <= 1 for point in points)


@both(recorded("data_api_v2/resolutions_2026-09-14.json"), sandbox_resolutions)
def test_payouts_of_a_resolved_market_are_numerators(answers: Answers) -> None:
    resolved = 0
    for body in answers():
        for row in (convert(each, ResolutionRow, "/r") for each in body["data"]):
            if row.status == "resolved" and row.payouts:
                assert len(row.payouts) == 2
                assert min(row.payouts) >= 0
                assert max(row.payouts) <= MICRO <= sum(row.payouts)
                assert row.resolved_at
                resolved += 1
    assert resolved
