"""From a venue into the tables of wallets, in the sandbox and with every fault that a venue shows."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import DAY, SECOND, day_of, parse_time
from pm_pipeline.markets.keys import MarketKey, Venue
from pm_pipeline.sources.connect import open_adapter
from pm_pipeline.sources.errors import SourceError
from pm_pipeline.sources.ingest import Outcome
from pm_pipeline.sources.polymarket import PolymarketAdapter
from pm_pipeline.sources.polymarket.wallets.client import Reach, WalletReader
from pm_pipeline.sources.polymarket.wallets.rows import MarketIds
from pm_pipeline.sources.sandbox import Fault, Faults, Planned, World, build_app, generate_world
from pm_pipeline.sources.sandbox.data_trades import MAKERS
from pm_pipeline.sources.sandbox.plans import POLITICS_FEES, question_event
from pm_pipeline.sources.wallet_log import (
    append_reading,
    ingest_activity,
    ingest_holders,
    ingest_leaderboard,
    ingest_positions,
    withdraw_reading,
)
from pm_pipeline.warehouse.coverage import CoverageStatus, read_coverage
from pm_pipeline.warehouse.holdings import differences
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.leaders import LEADERBOARD
from pm_pipeline.warehouse.readings import ACTIVITY, HOLDERS, POSITIONS, readings_of
from pm_pipeline_tests.at_once import few_at_once
from pm_pipeline_tests.end_to_end.unnoticed import UNNOTICED
from pm_pipeline_tests.sources.polymarket.material import MARKET, NOW
from pm_pipeline_tests.sources.polymarket.wallets.wallet_material import (
    COMBO,
    WALLET,
    act,
    group,
    money,
    position,
    read_wallets,
    wallet_server,
)
from pm_pipeline_tests.sources.server import Server
from pm_pipeline_tests.warehouse.builders import lake_at

IDS: Final = MarketIds.of([MARKET])
KEY: Final = str(MARKET.key)
MAKER: Final = MAKERS[0]


@lru_cache(maxsize=1)
def world() -> World:
    """One market with more than a page of trades."""
    plan = question_event(
        "busy",
        "busy?",
        opened="2026-06-24T00:00:00Z",
        closed="2026-06-26T14:00:00Z",
        category="Politics",
        fees=POLITICS_FEES,
    )
    return generate_world(3, [replace(plan, trades_per_hour=11.0)])


@asynccontextmanager
async def opened(faults: Faults | None = None) -> AsyncIterator[WalletReader]:
    async with open_adapter(Venue.POLYMARKET, "sandbox", sandbox_app=build_app(world(), faults)) as adapter:
        assert isinstance(adapter, PolymarketAdapter)
        yield adapter.wallets


def ids() -> MarketIds:
    return MarketIds.of(market.market for market in world().polymarket.values())


async def read(lake: Lake, name: str, faults: Faults | None = None) -> Outcome:
    (market,) = world().polymarket.values()
    now = world().now
    async with opened(faults) as reader:
        if name == LEADERBOARD:
            return await ingest_leaderboard(reader, lake, day_of(now), top=150)
        if name == HOLDERS:
            return (await ingest_holders(reader, lake, [market.market], now))[0]
        ingest = ingest_activity if name == ACTIVITY else ingest_positions
        return (await ingest(reader, lake, [MAKER], ids(), now))[0]


PATHS: Final = {
    ACTIVITY: "/v2/activity",
    POSITIONS: "/v2/positions",
    HOLDERS: "/v2/holders",
    LEADERBOARD: "/v2/leaderboard",
}

PATIENT: Final = Fault.RATE_LIMITED_WITH_WAIT
"""A fault through which a client waits for seconds, and tells no more if it goes on."""


def held(lake: Lake, name: str, key: str) -> str | None:
    info = lake.info(name, key)
    return info.fingerprint if info else None


@pytest.mark.slow
@pytest.mark.parametrize("name", PATHS)
def test_a_wallets_partition_is_right_or_keeps_its_former_rows_with_the_reason(
    name: str, tmp_path: Path
) -> None:
    calm = lake_at(tmp_path / "calm")
    first = asyncio.run(read(calm, name))
    assert first.error is None
    key = first.market_key
    truth = held(calm, name, key)

    async def case(fault: Fault, nth: int, times: int) -> list[str]:
        faults = Faults(plan=(Planned(fault, PATHS[name], nth, times),), stall_s=0.02)
        lake = lake_at(tmp_path / f"{fault}-{nth}-{times}")
        outcome = await read(lake, name, faults)
        (coverage,) = read_coverage(lake, name, key)
        if outcome.error is not None:
            problems = [] if held(lake, name, key) is None else ["failed, and rows were written"]
            problems += [] if coverage.status is CoverageStatus.FAILED and coverage.reason else ["no reason"]
            again = await read(lake, name)
            problems += [] if held(lake, name, key) == truth and not again.error else ["no re-run"]
        elif held(lake, name, key) != truth and (fault, PATHS[name]) not in UNNOTICED:
            problems = ["wrong rows without a word"]
        else:
            problems = []
        return [f"{fault} #{nth}x{times}: {problem}" for problem in problems]

    async def all_cases() -> list[str]:
        cases = [
            case(fault, nth, times)
            for fault in Fault
            for nth, times in ((1, 1), (2, 1), (1, 1_000_000))
            if not (fault is PATIENT and times > 1) and (fault, nth) != (Fault.REPEATED_CURSOR, 1)
        ]
        return [problem for found in await few_at_once(cases) for problem in found]

    assert asyncio.run(all_cases()) == []


def test_what_a_shortened_answer_hides_the_other_answer_tells(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    asyncio.run(read(lake, POSITIONS))
    asyncio.run(read(lake, ACTIVITY))
    acts, held_now = lake.read(ACTIVITY, MAKER), lake.read(POSITIONS, MAKER)
    assert list(differences(acts, held_now)) == []
    assert list(differences(acts.slice(0, acts.num_rows // 2), held_now))
    assert list(differences(acts.slice(0, 0), held_now))


@pytest.mark.parametrize("fault", [Fault.STALE, Fault.DUPLICATE_ROWS])
def test_activity_that_is_short_or_told_twice_is_noticed_however_long_that_lasts(
    fault: Fault, tmp_path: Path
) -> None:
    """A duplicate that is stored once would make every right answer look shorter, and be refused for ever."""
    lake = lake_at(tmp_path)
    assert asyncio.run(read(lake, ACTIVITY)).error is None
    truth = held(lake, ACTIVITY, MAKER)
    for nth, times in ((1, 1), (2, 1), (3, 1), (1, 1_000_000)):
        faults = Faults(plan=(Planned(fault, PATHS[ACTIVITY], nth, times),))
        outcome = asyncio.run(read(lake, ACTIVITY, faults))
        assert outcome.error is not None or times == 1
        assert held(lake, ACTIVITY, MAKER) == truth


def test_a_shorter_history_is_refused_and_the_former_one_stays(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    rows = [act(timestamp=1783862192 + n) for n in range(3)]
    outcomes = [
        attempt(wallet_server({"/v2/activity": told}), partial(activity_within, lake, Reach.ALL))
        for told in (rows, rows[:2])
    ]
    assert [outcome.error is None for outcome in outcomes] == [True, False]
    assert "already in the lake" in str(outcomes[1].error)
    assert lake.read(ACTIVITY, WALLET).num_rows == 3
    assert read_coverage(lake, ACTIVITY, WALLET)[0].status is CoverageStatus.FAILED


# answers made by hand


def attempt(server: Server, read_with: Callable[[WalletReader], Any]) -> Outcome:
    found = read_wallets(server, read_with)
    outcome: Outcome = found[0] if isinstance(found, list) else found
    return outcome


async def activity_within(lake: Lake, reach: Reach, reader: WalletReader) -> list[Outcome]:
    return await ingest_activity(reader, lake, [WALLET], IDS, NOW, reach=reach)


def hold(lake: Lake, rows: list[Any], now: int) -> Outcome:
    server = wallet_server({"/v2/positions": rows}, now=now)
    return attempt(server, lambda r: ingest_positions(r, lake, [WALLET], IDS, now))


def test_readings_are_added_and_the_same_moment_counts_once(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    hold(lake, [position()], NOW)
    first = held(lake, POSITIONS, WALLET)
    hold(lake, [position()], NOW)
    assert held(lake, POSITIONS, WALLET) == first
    hold(lake, [position(current_size=1), position(token_id="222")], NOW + DAY)
    assert [(r.ts, r.rows) for r in readings_of(lake, POSITIONS, WALLET)] == [(NOW, 1), (NOW + DAY, 2)]
    assert lake.read(POSITIONS, WALLET)["size"].to_pylist() == [28_090_000, 1_000_000, 28_090_000]


def test_an_older_reading_that_is_replayed_takes_its_place(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    hold(lake, [position(current_size=2)], NOW + DAY)
    hold(lake, [position(current_size=1)], NOW)
    assert lake.read(POSITIONS, WALLET)["size"].to_pylist() == [1_000_000, 2_000_000]
    assert [r.ts for r in readings_of(lake, POSITIONS, WALLET)] == [NOW, NOW + DAY]


def test_the_same_moment_told_with_more_is_mended_and_with_less_is_refused(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    hold(lake, [position()], NOW)
    assert hold(lake, [position(), position(token_id="222")], NOW).error is None
    assert lake.read(POSITIONS, WALLET).num_rows == 2
    outcome = hold(lake, [position()], NOW)
    assert "told 2 of the same moment before" in str(outcome.error)
    assert lake.read(POSITIONS, WALLET).num_rows == 2


def test_a_wallet_whose_positions_are_all_gone_is_not_believed(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    assert hold(lake, [], NOW).coverage.status is CoverageStatus.EMPTY
    assert hold(lake, [position()], NOW + DAY).error is None
    outcome = hold(lake, [], NOW + 2 * DAY)
    assert "not even a closed one" in str(outcome.error)
    assert len(readings_of(lake, POSITIONS, WALLET)) == 2


def test_combos_are_told_in_the_coverage(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    server = wallet_server({"/v2/activity": [act(), act(condition_id=COMBO)]})
    outcome = attempt(server, lambda r: ingest_activity(r, lake, [WALLET], IDS, NOW))
    assert (outcome.coverage.gaps, outcome.coverage.reason) == (
        1,
        "1 rows about combos of markets were left out",
    )
    assert not outcome.coverage.complete


def test_transfers_stay_when_only_trading_is_read(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    for reach, kinds in (
        (Reach.ALL, {"trade", "deposit"}),
        (Reach.TRADING, {"trade", "deposit"}),
    ):
        server = wallet_server({"/v2/activity": [act(), money("DEPOSIT")]})
        outcome = attempt(server, partial(activity_within, lake, reach))
        assert outcome.error is None
        assert set(lake.read(ACTIVITY, WALLET)["kind"].to_pylist()) == kinds


def test_a_cut_list_of_holders_says_so(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    wallets = [(f"0x{n:040x}", n) for n in range(1, 1001)]
    server = wallet_server({"/v2/holders": [group("111", wallets), group("222", [])]})
    outcome = attempt(server, lambda r: ingest_holders(r, lake, [MARKET], NOW))
    assert outcome.coverage.reason == "outcome 0: only its 1,000 largest holders are shown."
    assert (outcome.coverage.rows, outcome.coverage.gaps) == (1000, 1)


def test_holders_are_not_told_by_every_venue_nor_without_a_condition(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    kalshi = replace(MARKET, key=MarketKey(Venue.KALSHI, "KX-1"))
    bare = replace(MARKET, condition_id=None)
    found = read_wallets(wallet_server({}), lambda r: ingest_holders(r, lake, [kalshi, bare], NOW))
    assert [outcome.coverage.status for outcome in found] == [
        CoverageStatus.UNSUPPORTED,
        CoverageStatus.FAILED,
    ]
    assert [outcome.error is None for outcome in found] == [True, False]


def test_a_market_that_nobody_holds_any_more_has_an_empty_reading(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    for now, groups in ((NOW, [group("111", [(WALLET, 5)])]), (NOW + DAY, [group("111", [])])):
        server = wallet_server({"/v2/holders": groups}, now=now)
        attempt(server, lambda reader: ingest_holders(reader, lake, [MARKET], NOW))
    assert [r.rows for r in readings_of(lake, HOLDERS, KEY)] == [1, 0]


@pytest.mark.parametrize("day", ["2026-07-31", "2026-08-02"])
def test_only_todays_leaderboard_can_be_read(day: str, tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    with pytest.raises(UsageError, match="the source's day is 2026-08-01"):
        read_wallets(wallet_server({}), lambda r: ingest_leaderboard(r, lake, day))
    assert lake.partitions(LEADERBOARD) == []


def test_an_empty_leaderboard_is_an_error(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    server = wallet_server({"/v2/leaderboard": []})
    outcome = attempt(server, lambda r: ingest_leaderboard(r, lake, "2026-08-01"))
    assert "is empty, which cannot be" in str(outcome.error)


def test_a_withdrawn_reading_leaves_those_before_it(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    hold(lake, [position()], NOW)
    first = lake.read(POSITIONS, WALLET)
    outcome = hold(lake, [position(current_size=3)], NOW + DAY)
    withdrawn = withdraw_reading(lake, outcome, "a rule")
    assert (str(withdrawn.error), withdrawn.coverage.status) == ("a rule", CoverageStatus.FAILED)
    assert lake.read(POSITIONS, WALLET).equals(first)
    assert [r.ts for r in readings_of(lake, POSITIONS, WALLET)] == [NOW]


def test_what_is_no_error_of_the_source_is_raised(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)

    class Broken(WalletReader):
        async def moment(self) -> int:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(ingest_positions(Broken(None), lake, [WALLET], IDS, NOW))  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 4)), max_size=8))
def test_no_reading_ever_takes_rows_of_another_away(
    tmp_path_factory: pytest.TempPathFactory, looks: list[tuple[int, int, int]]
) -> None:
    lake = lake_at(tmp_path_factory.mktemp("readings"))
    told: dict[int, int] = {}
    for second, delay, count in looks:
        began = parse_time("2026-01-01") + second * SECOND
        rows = [
            {"market_key": KEY, "outcome_index": 0, "rank": n + 1, "wallet": WALLET, "size": 1, "source": "t"}
            for n in range(count)
        ]
        try:
            append_reading(lake, HOLDERS, KEY, rows, began, began + delay * SECOND)
        except SourceError:
            assert count < told[began]
            continue
        told[began] = count
    found = readings_of(lake, HOLDERS, KEY)
    assert {reading.ts: reading.rows for reading in found} == told
    assert all(reading.known_at >= reading.ts for reading in found)
    if lake.exists(HOLDERS, KEY):
        assert lake.read(HOLDERS, KEY).num_rows == sum(told.values())
