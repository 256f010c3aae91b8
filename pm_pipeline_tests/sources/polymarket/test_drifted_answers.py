"""Answers whose rows have a new field, or lack one: refused by its name, and nothing is written."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from pm_pipeline.markets.clock import DAY, day_of
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.adapter import Selection, Window
from pm_pipeline.sources.connect import open_adapter
from pm_pipeline.sources.drift import HARMLESS
from pm_pipeline.sources.errors import SourceError
from pm_pipeline.sources.ingest import ingest
from pm_pipeline.sources.polymarket import PolymarketAdapter
from pm_pipeline.sources.polymarket.catalog import gamma
from pm_pipeline.sources.polymarket.endings.resolutions import Asked, clob_market
from pm_pipeline.sources.polymarket.history import prices
from pm_pipeline.sources.polymarket.wallets.rows import MarketIds
from pm_pipeline.sources.sandbox import Fault, Faults, Planned, World, build_app, load_world
from pm_pipeline.sources.sandbox.data_trades import MAKERS
from pm_pipeline.sources.wallet_log import (
    ingest_activity,
    ingest_holders,
    ingest_leaderboard,
    ingest_positions,
)
from pm_pipeline.warehouse.coverage import CoverageStatus, read_coverage
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.leaders import LEADERBOARD
from pm_pipeline.warehouse.readings import ACTIVITY, HOLDERS, POSITIONS
from pm_pipeline_tests.warehouse.builders import lake_at

ALWAYS: Final = 1_000_000
TRADES: Final = "market_data.trades"
PRICES: Final = "market_data.prices"
BOOKS: Final = "market_data.book_events"

Read = Callable[[PolymarketAdapter], Awaitable[object]]


@lru_cache(maxsize=1)
def world() -> World:
    return load_world()


def market(*, trading: bool) -> Market:
    return next(
        each.market
        for each in world().polymarket.values()
        if (each.resolution.payouts is None) is trading and not each.inactive and len(each.trades().ts) > 5
    )


def read(do: Read, fault: Planned | None = None, asked: Asked = Asked.AUTO) -> Any:
    async def run() -> object:
        app = build_app(world(), Faults(plan=(fault,)) if fault else None)
        async with open_adapter(Venue.POLYMARKET, "sandbox", sandbox_app=app, asked=asked) as adapter:
            assert isinstance(adapter, PolymarketAdapter)
            return await do(adapter)

    return asyncio.run(run())


async def catalog(adapter: PolymarketAdapter) -> object:
    return [listing async for listing in adapter.get_listings(Selection(venue=Venue.POLYMARKET))]


async def large_markets(adapter: PolymarketAdapter) -> object:
    return [
        listing async for listing in adapter.get_listings(Selection(venue=Venue.POLYMARKET, min_volume=MICRO))
    ]


async def one_market(adapter: PolymarketAdapter) -> object:
    return await gamma.market_by_id(adapter._gamma, market(trading=True).key.native_id)


async def one_series(adapter: PolymarketAdapter) -> object:
    series = next(m.market.series for m in world().polymarket.values() if m.market.series)
    return [
        listing async for listing in adapter.get_listings(Selection(venue=Venue.POLYMARKET, series=(series,)))
    ]


async def points(adapter: PolymarketAdapter) -> object:
    ended = market(trading=False)
    opened, token = ended.opened_at, ended.instrument(0).token_id
    assert opened is not None
    assert token is not None
    return await prices.data_history(adapter._data, token)(Window(opened, opened + DAY), 60)


async def many_books(adapter: PolymarketAdapter) -> object:
    return [each async for each in adapter.get_orderbooks([market(trading=True)])]


async def ends(adapter: PolymarketAdapter) -> object:
    (ending,) = [each async for each in adapter.get_endings([market(trading=False)])]
    if ending.error is not None:
        raise ending.error
    return ending


async def winner(adapter: PolymarketAdapter) -> object:
    return await clob_market(adapter._clob, str(market(trading=False).condition_id))


ANSWERS: Final[dict[str, tuple[str, Read, str, str]]] = {
    "events": ("/events/keyset", catalog, "GammaEvent", "id"),
    "markets": ("/markets/keyset", large_markets, "GammaMarket", "id"),
    "a market": ("/markets/*", one_market, "GammaMarket", "id"),
    "series": ("/series", one_series, "_Series", "id"),
    "buckets": ("/v2/prices-history", points, "PricePoint", "timestamp"),
    "books": ("/books", many_books, "BookAnswer", "asset_id"),
    "resolutions": ("/v2/resolutions", ends, "ResolutionRow", "condition_id"),
    "a market of the CLOB": ("/markets/0x*", winner, "ClobMarket", "condition_id"),
}
"""Answers by path: who reads them, as what record, and which field the sandbox drops."""


@pytest.mark.parametrize("name", ANSWERS)
def test_a_drifted_answer_is_refused_by_the_name_of_the_field(name: str) -> None:
    path, do, record, lost = ANSWERS[name]
    assert read(do) is not None
    for fault, said in ((Fault.NEW_FIELD, f"{record}.new_field"), (Fault.MISSING_FIELD, lost)):
        with pytest.raises(SourceError, match=said):
            read(do, Planned(fault, path, times=ALWAYS))


async def stored(adapter: PolymarketAdapter, lake: Lake, table: str) -> object:
    now, ids = world().now, MarketIds.of(each.market for each in world().polymarket.values())
    chosen = market(trading=table == BOOKS)
    wallets = adapter.wallets
    if table == ACTIVITY:
        return (await ingest_activity(wallets, lake, [MAKERS[0]], ids, now))[0]
    if table == POSITIONS:
        return (await ingest_positions(wallets, lake, [MAKERS[0]], ids, now))[0]
    if table == HOLDERS:
        return (await ingest_holders(wallets, lake, [market(trading=True)], now))[0]
    if table == LEADERBOARD:
        return await ingest_leaderboard(wallets, lake, day_of(now), top=20)
    return (await ingest(adapter, lake, table, [chosen]))[0]


STORED: Final[dict[str, tuple[str, str, str]]] = {
    TRADES: ("/v2/trades", "TradeRow", "condition_id"),
    PRICES: ("/prices-history", "HistoryPoint", "t"),
    BOOKS: ("/book", "BookAnswer", "asset_id"),
    ACTIVITY: ("/v2/activity", "ActivityRow", "condition_id"),
    POSITIONS: ("/v2/positions", "PositionRow", "condition_id"),
    HOLDERS: ("/v2/holders", "HolderGroup", "token_id"),
    LEADERBOARD: ("/v2/leaderboard", "LeaderRow", "user_id"),
}
"""Tables by what they are read from, as what record, and which field the sandbox drops."""


@pytest.mark.parametrize("table", STORED)
def test_nothing_is_written_of_an_answer_that_drifted(table: str, tmp_path: Path) -> None:
    path, record, lost = STORED[table]
    lake = lake_at(tmp_path)
    for fault, said in ((Fault.NEW_FIELD, f"{record}.new_field"), (Fault.MISSING_FIELD, f"`{lost}`")):
        outcome = read(lambda a: stored(a, lake, table), Planned(fault, path, times=ALWAYS))
        assert said in str(outcome.error)
        assert path in str(outcome.error)
        assert lake.partitions(table) == []
        (coverage,) = read_coverage(lake, table, outcome.market_key)
        assert coverage.status is CoverageStatus.FAILED
        assert said in coverage.reason


@pytest.mark.parametrize("table", [TRADES, HOLDERS])
def test_a_new_field_that_was_looked_up_changes_nothing(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, record, _ = STORED[table]
    calm, told = lake_at(tmp_path / "calm"), lake_at(tmp_path / "told")
    key = read(lambda a: stored(a, calm, table)).market_key
    monkeypatch.setenv(HARMLESS, f"{record}.new_field")
    drift = Planned(Fault.NEW_FIELD, path, times=ALWAYS)
    assert read(lambda a: stored(a, told, table), drift).error is None
    assert told.read(table, key).equals(calm.read(table, key))
    monkeypatch.setenv(HARMLESS, f"{record}.new_name")
    assert f"{record}.new_field" in str(read(lambda a: stored(a, told, table), drift).error)


def test_trades_and_positions_below_a_hundredth_of_a_contract_are_read(tmp_path: Path) -> None:
    """``filter_amount=0`` would hide them, at the venue and in the sandbox."""
    whole = next(
        each
        for each in world().polymarket.values()
        if each.resolution.payouts is None and len(each.trades().ts) > 5
    )
    trades = whole.trades()
    sizes = np.full_like(trades.size, 3)
    former = trades.size.copy()
    trades.size[:] = sizes
    try:
        lake, key = lake_at(tmp_path), str(whole.market.key)
        assert read(lambda a: ingest(a, lake, TRADES, [whole.market]))[0].error is None
        assert set(lake.read(TRADES, key)["size"].to_pylist()) == {3}
        wallet = str(trades.wallet[0])
        held = read(lambda a: a.wallets.positions(wallet, MarketIds.of([whole.market])))
        assert {row["size"] for row in held.rows if row["market_key"] == key} - {0}

        async def shown(adapter: PolymarketAdapter, amount: str) -> int:
            asked = {"condition": whole.market.condition_id, "filter_amount": amount}
            return len((await adapter._data.get("/v2/trades", asked))["data"])

        assert read(lambda a: shown(a, "0")) == read(lambda a: shown(a, "0.01")) == 0
        assert read(lambda a: shown(a, "0.000001")) > 5
    finally:
        trades.size[:] = former
