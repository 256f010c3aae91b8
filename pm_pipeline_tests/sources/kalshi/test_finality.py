"""What of Kalshi's history may be called final: nothing that was asked for before it could be there."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, SECOND, Nanos, parse_time, to_nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.ingest import Outcome, ingest, is_fresh
from pm_pipeline.sources.kalshi import KalshiAdapter
from pm_pipeline.sources.kalshi.history import SETTLED_AFTER
from pm_pipeline.warehouse.coverage import CoverageStatus
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline_tests.sources.kalshi.material import CLOSED, MARKET, OPENED, venue
from pm_pipeline_tests.sources.kalshi.test_history import LIVE, candle, trade
from pm_pipeline_tests.sources.server import client_of, json_response

PRICES, CANDLES, TRADES = (f"market_data.{name}" for name in ("prices", "candles", "trades"))
HALF_PAST = parse_time("2026-07-11T15:30:00Z")
LONG_LIVED = replace(MARKET, opened_at=parse_time("2026-06-01T00:00:00Z"), scheduled_close=HALF_PAST)


def each_period(request: Request) -> Response:
    """A candle at the end of every period within the range asked for."""
    first, last, period = (
        int(request.query_params[name]) for name in ("start_ts", "end_ts", "period_interval")
    )
    ends = range(-(-first // (period * 60)) * period * 60, last + 1, period * 60)
    return json_response({"candlesticks": [candle(end) for end in ends]})


def fill(lake: Lake, name: str, market: Market, now: Nanos, **answers: Any) -> tuple[Outcome, bool]:
    """What became of a reading at ``now``, and whether it counts as final a day later."""
    table = {LIVE: each_period, "/markets/trades": {"trades": [trade()], "cursor": ""}, **answers}

    async def run() -> tuple[Outcome, bool]:
        async with KalshiAdapter(client_of(venue(table, now))) as adapter:
            (outcome,) = await ingest(adapter, lake, name, [market])
            return outcome, is_fresh(adapter, lake, name, market, now + DAY)

    return asyncio.run(run())


def last(lake: Lake, name: str, market: Market) -> Nanos:
    return max(to_nanos(ts) for ts in lake.read(name, str(market.key))["ts"].to_pylist())


@pytest.mark.parametrize("name", [PRICES, CANDLES])
def test_a_close_is_read_for_good_only_when_its_last_candle_has_ended(tmp_path: Path, name: str) -> None:
    """By the hour, and closed at half past: the half hour before the close stands in the candle of the full
    hour, which is not there yet."""
    lake, closed = Lake(tmp_path, durability="rename"), replace(LONG_LIVED, traded_until=HALF_PAST)
    outcome, final = fill(lake, name, closed, HALF_PAST + 6 * MINUTE)
    assert outcome.coverage.status is CoverageStatus.COMPLETE
    assert (last(lake, name, closed), final) == (HALF_PAST - 30 * MINUTE, False)
    outcome, final = fill(lake, name, closed, HALF_PAST + 2 * HOUR)
    assert outcome.coverage.status is CoverageStatus.COMPLETE
    assert (last(lake, name, closed), final) == (HALF_PAST + 30 * MINUTE, True)
    assert outcome.coverage.asked_to == HALF_PAST + HOUR


@pytest.mark.parametrize(
    ("after_close", "final"), [(0, False), (SETTLED_AFTER - SECOND, False), (SETTLED_AFTER, True)]
)
def test_trades_are_final_once_no_cache_can_hide_one(tmp_path: Path, after_close: Nanos, final: bool) -> None:
    lake = Lake(tmp_path, durability="rename")
    assert fill(lake, TRADES, MARKET, CLOSED + after_close)[1] is final


def test_a_candle_that_ended_a_moment_ago_is_left_for_the_next_reading(tmp_path: Path) -> None:
    """A cache may still hold it unfinished; stored so, it would contradict every later reading."""
    lake, trading = Lake(tmp_path, durability="rename"), replace(MARKET, traded_until=None)
    at = OPENED + 30 * MINUTE
    unfinished = {"candlesticks": [candle(at // SECOND - 60), candle(at // SECOND, yes_bid=_quote("0.1000"))]}
    fill(lake, PRICES, trading, at + 5 * SECOND, **{LIVE: unfinished})
    assert last(lake, PRICES, trading) == at - MINUTE
    outcome, _ = fill(lake, PRICES, trading, at + MINUTE)
    assert outcome.error is None
    assert last(lake, PRICES, trading) == at


def _quote(value: str) -> dict[str, str]:
    return {f"{name}_dollars": value for name in ("open", "high", "low", "close")}


@pytest.mark.parametrize(("scheduled", "period"), [(10 * DAY, 60), (20 * DAY, 3600)])
def test_candles_do_not_become_coarser_as_a_market_grows_older(
    tmp_path: Path, scheduled: Nanos, period: int
) -> None:
    """They are read whole each time, and fewer rows than before are refused."""
    lake = Lake(tmp_path, durability="rename")
    trading = replace(MARKET, traded_until=None, scheduled_close=OPENED + scheduled)
    for day in (2, 13, 16):
        assert fill(lake, CANDLES, trading, OPENED + day * DAY)[0].coverage.status is CoverageStatus.COMPLETE
        assert set(lake.read(CANDLES, str(trading.key))["period_s"].to_pylist()) == {period}


def test_candles_of_a_market_that_closed_early_become_finer(tmp_path: Path) -> None:
    lake = Lake(tmp_path, durability="rename")
    trading = replace(MARKET, traded_until=None, scheduled_close=OPENED + 20 * DAY)
    ended = replace(trading, traded_until=OPENED + 12 * DAY)
    for market, day, period in ((trading, 11, 3600), (ended, 13, 60)):
        assert fill(lake, CANDLES, market, OPENED + day * DAY)[0].error is None
        assert set(lake.read(CANDLES, str(market.key))["period_s"].to_pylist()) == {period}


def test_a_cursor_that_expires_on_the_way_leaves_the_former_rows(tmp_path: Path) -> None:
    lake, trading = Lake(tmp_path, durability="rename"), replace(MARKET, traded_until=None)
    pages = [{"trades": [trade(number)], "cursor": str(number)} for number in (2, 3)]
    expired = json_response({"error": {"code": "bad_request", "message": "invalid cursor"}}, 400)
    assert fill(lake, TRADES, trading, CLOSED)[0].error is None
    before = lake.info(TRADES, str(MARKET.key))
    outcome, final = fill(lake, TRADES, MARKET, CLOSED + DAY, **{"/markets/trades": [*pages, expired]})
    assert outcome.coverage.status is CoverageStatus.FAILED
    assert "invalid cursor" in outcome.coverage.reason
    assert (lake.info(TRADES, str(MARKET.key)), final) == (before, False)
    assert fill(lake, TRADES, MARKET, CLOSED + DAY)[1]


@pytest.mark.parametrize("name", [TRADES, CANDLES])
@pytest.mark.parametrize(("share", "short"), [("1.00", False), ("1.05", False), ("1.06", True)])
def test_rows_that_fall_short_of_the_stated_volume_are_not_called_complete(
    tmp_path: Path, name: str, share: str, short: bool
) -> None:
    lake, counted = Lake(tmp_path, durability="rename"), 12_610_000
    traded = replace(MARKET, volume=int(counted * Decimal(share)))
    one = {LIVE: {"candlesticks": [candle(CLOSED // SECOND, volume_fp="12.61")]}}
    coverage = fill(lake, name, traded, CLOSED + DAY, **one)[0].coverage
    assert coverage.status is (CoverageStatus.PARTIAL if short else CoverageStatus.COMPLETE)
    assert ("counts 13.36" in coverage.reason and "hold 12.61" in coverage.reason) is short
