"""What becomes of one market's rows: written, kept, refused. The adapter says what it is told to say."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pm_pipeline.markets.clock import DAY, FOREVER, HOUR, MINUTE, SECOND, Nanos, parse_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.resolution import Resolution, ResolutionStatus
from pm_pipeline.sources.adapter import EVERYTHING, PlatformAdapter, Position, Selection, Window, to_batch
from pm_pipeline.sources.endings import ingest_resolutions
from pm_pipeline.sources.errors import SourceError, UnsupportedError
from pm_pipeline.sources.ingest import (
    ASKED_TO,
    TRADES,
    Outcome,
    allowed_silence,
    ingest,
    is_fresh,
    verdict,
    withdraw,
)
from pm_pipeline.sources.resume import Since
from pm_pipeline.warehouse.coverage import CoverageStatus, read_coverage, write_coverage
from pm_pipeline.warehouse.files import StorageError
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline_tests.markets.builders import a_market

NOW = parse_time("2026-06-30T00:00:00Z")
PRICES = "market_data.prices"
Say = Callable[[Market], Sequence[Nanos]]


def listed(name: str = "A", *, hours: int = 24, closed: bool = True) -> Market:
    """A market that opened so many hours before it closed, which was ten days ago, or before now."""
    end = NOW - 240 * HOUR if closed else NOW
    return a_market(f"kalshi:{name}", opened_at=end - hours * HOUR, traded_until=end if closed else None)


class Told(PlatformAdapter):
    """Answers every feed with prices at the times that ``say`` gives."""

    venue = Venue.KALSHI

    def __init__(self, say: Say = lambda market: (), resolutions: Any = None, now: Nanos = NOW) -> None:
        self._say, self._resolutions, self._now = say, resolutions, now
        self.inside = self.most_inside = 0

    async def __aexit__(self, *_: object) -> None: ...

    async def now(self) -> Nanos:
        return self._now

    async def get_prices(self, market: Market, since: Since = EVERYTHING) -> AsyncIterator[pa.RecordBatch]:
        self.inside += 1
        self.most_inside = max(self.inside, self.most_inside)
        await asyncio.sleep(0)
        try:
            for ts in self._say(market):
                yield to_batch(PRICES, [_price(market, ts, self._now)])
        finally:
            self.inside -= 1

    async def get_candles(self, market: Market) -> AsyncIterator[pa.RecordBatch]:
        raise UnsupportedError("no candles here")
        yield  # type: ignore[unreachable]  # makes this an asynchronous generator

    async def get_trades(self, market: Market, since: Nanos = 0) -> AsyncIterator[pa.RecordBatch]:
        nothing: list[pa.RecordBatch] = []
        for batch in nothing:
            yield batch

    async def get_orderbook(self, market: Market) -> AsyncIterator[pa.RecordBatch]:
        common = {"market_key": str(market.key), "ts": 0, "known_at": 0, "ingested_at": self._now}
        rows = [{**common, "seq": seq, "kind": kind} for seq, kind in enumerate(("reset", "gap", "reset"))]
        yield to_batch("market_data.book_events", rows)

    async def get_resolutions(self, markets: Sequence[Market]) -> AsyncIterator[list[Resolution]]:
        for market in markets:
            said = self._resolutions(market)
            if isinstance(said, Exception):
                raise said
            yield said

    def get_markets(self, selection: Selection) -> AsyncIterator[list[Market]]:
        raise NotImplementedError

    def get_positions(self, wallet: str) -> AsyncIterator[list[Position]]:
        raise NotImplementedError


def _trade(market: Market, n: int) -> dict[str, Any]:
    return {
        "market_key": str(market.key),
        "outcome_index": 0,
        "ts": NOW - n * HOUR,
        "known_at": NOW,
        "ingested_at": NOW,
        "trade_id": str(n),
        "ordinal": 0,
        "price": 500_000,
        "size": 1,
        "side": "buy",
        "side_evidence": "feed",
        "is_block": False,
    }


def _price(market: Market, ts: Nanos, now: Nanos) -> dict[str, Any]:
    return {
        "market_key": str(market.key),
        "outcome_index": 0,
        "ts": ts,
        "known_at": ts,
        "ingested_at": now,
        "mid": 500_000,
        "resolution_s": 0,
        "source": "told",
    }


def until(before_end: float) -> Say:
    """Prices at the opening and so many hours before the end of trading (or before now)."""
    return lambda market: (
        market.opened_at or 0,
        (market.traded_until or NOW) - round(before_end * HOUR),
    )


def resolved(status: ResolutionStatus, payouts: tuple[int, int] | None = None) -> Any:
    def say(market: Market) -> list[Resolution]:
        ended = status in {ResolutionStatus.RESOLVED, ResolutionStatus.VOID}
        return [
            Resolution(
                market_key=market.key,
                status=status,
                payouts=payouts,
                closed_at=None if status is ResolutionStatus.OPEN else NOW,
                resolved_at=NOW if ended else None,
                known_at=NOW,
                source="told",
            )
        ]

    return say


def read(lake: Lake, adapter: PlatformAdapter, *markets: Market, name: str = PRICES) -> list[Outcome]:
    return asyncio.run(ingest(adapter, lake, name, markets))


@pytest.mark.parametrize(
    ("closed", "silent_hours", "quiet"),
    [(True, 0, False), (True, 48, False), (True, 48.1, True), (False, 6, False), (False, 6.1, True)],
)
def test_a_silence_that_is_too_long_is_no_answer(
    tmp_path: Path, closed: bool, silent_hours: float, quiet: bool
) -> None:
    lake, market = Lake(tmp_path, durability="rename"), listed(hours=96, closed=closed)
    (outcome,) = read(lake, Told(until(silent_hours)), market)
    status = CoverageStatus.QUIET if quiet else CoverageStatus.COMPLETE
    assert outcome.coverage.status is status
    assert lake.exists(PRICES, str(market.key)) is not quiet
    assert (outcome.error is not None) is quiet
    assert read_coverage(lake, PRICES, str(market.key)) == [outcome.coverage]


def test_coverage_says_what_was_asked_and_what_came(tmp_path: Path) -> None:
    lake, market = Lake(tmp_path, durability="rename"), listed(hours=24)
    (outcome,) = read(lake, Told(until(1)), market)
    coverage = outcome.coverage
    assert (coverage.asked_from, coverage.asked_to) == (market.opened_at, market.traded_until)
    assert (coverage.got_from, coverage.got_to) == (market.opened_at, market.traded_until - HOUR)  # type: ignore[operator]
    assert (coverage.rows, coverage.gaps, coverage.reason, coverage.ingested_at) == (2, 0, "", NOW)
    info = lake.info(PRICES, str(market.key))
    assert info is not None
    assert info.meta == {ASKED_TO: str(market.traded_until)}


@pytest.mark.parametrize(
    ("name", "status", "rows", "gaps", "reason"),
    [
        ("market_data.trades", CoverageStatus.EMPTY, 0, 0, "the source has no rows"),
        ("market_data.candles", CoverageStatus.UNSUPPORTED, 0, 0, "no candles here"),
        ("market_data.book_events", CoverageStatus.COMPLETE, 3, 1, ""),
    ],
)
def test_an_answer_without_rows_is_an_answer(
    tmp_path: Path, name: str, status: CoverageStatus, rows: int, gaps: int, reason: str
) -> None:
    lake, market = Lake(tmp_path, durability="rename"), listed()
    (outcome,) = read(lake, Told(), market, name=name)
    assert outcome.error is None
    found = outcome.coverage
    assert (found.status, found.rows, found.gaps, found.reason) == (status, rows, gaps, reason)
    assert lake.read(name, str(market.key)).num_rows == rows
    assert asyncio.run(_fresh(lake, Told(), name, market))


def test_a_shorter_answer_than_we_have_is_refused(tmp_path: Path) -> None:
    lake, market = Lake(tmp_path, durability="rename"), listed()
    lake.write(TRADES, str(market.key), to_batch(TRADES, [_trade(market, n) for n in range(3)]))
    former = lake.read(TRADES, str(market.key))
    (outcome,) = read(lake, Told(), market, name=TRADES)
    assert outcome.coverage.status is CoverageStatus.FAILED
    assert "now has 0 rows for market_data.trades of kalshi:A, and 3 are already in the lake" in str(
        outcome.error
    )
    assert lake.read(TRADES, str(market.key)).equals(former)


def test_prices_that_do_not_meet_the_stored_ones_are_refused(tmp_path: Path) -> None:
    lake, market = Lake(tmp_path, durability="rename"), listed()
    read(lake, Told(lambda m: [m.traded_until - n * HOUR for n in (3, 2, 1)]), market)  # type: ignore[operator]
    former = lake.read(PRICES, str(market.key))
    (outcome,) = read(lake, Told(until(0)), market)
    assert outcome.coverage.status is CoverageStatus.FAILED
    assert "of the 3 prices stored of" in str(outcome.error)
    assert lake.read(PRICES, str(market.key)).equals(former)


def test_a_market_is_read_on_from_where_it_was_left_and_nothing_stored_is_given_up(tmp_path: Path) -> None:
    asked: list[Since] = []

    class Recording(Told):
        async def get_prices(
            self, market: Market, since: Since = EVERYTHING
        ) -> AsyncIterator[pa.RecordBatch]:
            asked.append(since)
            async for batch in super().get_prices(market, since):
                yield batch

    lake, market = Lake(tmp_path, durability="rename"), listed(closed=False)
    start = NOW - 24 * HOUR
    read(lake, Recording(lambda m: [start, start + 12 * HOUR], now=start + 13 * HOUR), market)
    later = Recording(lambda m: [start + 12 * HOUR, NOW - HOUR])
    (outcome,) = read(lake, later, market)
    assert [dict(since) for since in asked] == [{}, {0: start + 6 * HOUR}]
    assert (outcome.coverage.rows, outcome.coverage.got_from) == (3, start)


def test_each_outcome_must_be_quoted_to_the_end_on_its_own(tmp_path: Path) -> None:
    class Half(Told):
        async def get_prices(
            self, market: Market, since: Since = EVERYTHING
        ) -> AsyncIterator[pa.RecordBatch]:
            end = market.traded_until or NOW
            for outcome, last in ((0, end), (1, end - 49 * HOUR)):
                yield to_batch(PRICES, [{**_price(market, last, NOW), "outcome_index": outcome}])

    lake = Lake(tmp_path, durability="rename")
    (outcome,) = read(lake, Half(), listed(hours=96))
    assert outcome.coverage.status is CoverageStatus.QUIET
    assert "49 hours before" in outcome.coverage.reason


@pytest.mark.parametrize(
    ("venue", "life", "trading", "allowed"),
    [
        (Venue.POLYMARKET, 5 * MINUTE, False, 100 * SECOND),
        (Venue.POLYMARKET, 5 * MINUTE, True, 100 * SECOND),
        (Venue.POLYMARKET, 15 * MINUTE, False, 5 * MINUTE),
        (Venue.POLYMARKET, 12 * HOUR, True, 4 * HOUR),
        (Venue.POLYMARKET, 25 * HOUR, True, 6 * HOUR),
        (Venue.POLYMARKET, 25 * HOUR, False, 20 * HOUR),
        (Venue.POLYMARKET, 60 * HOUR, False, 48 * HOUR),
        (Venue.POLYMARKET, 60 * DAY, False, 48 * HOUR),
        (Venue.POLYMARKET, 60 * DAY, True, 6 * HOUR),
        (Venue.KALSHI, 15 * MINUTE, False, 48 * HOUR),
        (Venue.KALSHI, 60 * DAY, True, 6 * HOUR),
    ],
)
def test_how_long_a_market_may_be_silent_follows_its_life(
    venue: Venue, life: Nanos, trading: bool, allowed: Nanos
) -> None:
    assert allowed_silence(venue, Window(NOW - life, NOW), trading=trading) == allowed


def test_a_source_that_fails_leaves_the_former_rows_and_the_other_markets(tmp_path: Path) -> None:
    lake, good, bad = Lake(tmp_path, durability="rename"), listed("A"), listed("B")
    read(lake, Told(until(0)), good, bad)

    def say(market: Market) -> Sequence[Nanos]:
        if market.key == bad.key:
            raise SourceError("HTTP 500")
        return until(0)(market)

    heard: list[str] = []
    outcomes = asyncio.run(
        ingest(Told(say), lake, PRICES, [bad, good], done=lambda outcome: heard.append(outcome.market_key))
    )
    assert [(o.market_key, o.coverage.status) for o in outcomes] == [
        ("kalshi:B", CoverageStatus.FAILED),
        ("kalshi:A", CoverageStatus.COMPLETE),
    ]
    assert sorted(heard) == ["kalshi:A", "kalshi:B"]
    assert lake.read(PRICES, "kalshi:B").num_rows == 2
    assert outcomes[0].coverage.reason == "HTTP 500"


def test_a_market_that_nobody_knows_the_opening_of_is_a_failure(tmp_path: Path) -> None:
    (outcome,) = read(Lake(tmp_path, durability="rename"), Told(until(0)), replace(listed(), opened_at=None))
    assert "nobody says when kalshi:A opened" in outcome.coverage.reason


def test_few_markets_are_in_memory_at_once(tmp_path: Path) -> None:
    adapter = Told(until(0))
    markets = [listed(f"M{number}") for number in range(20)]
    outcomes = asyncio.run(
        ingest(adapter, Lake(tmp_path, durability="rename"), PRICES, markets, concurrency=3)
    )
    assert [outcome.market_key for outcome in outcomes] == [str(market.key) for market in markets]
    assert adapter.most_inside == 3


def test_an_error_that_is_not_the_sources_is_raised_as_itself(tmp_path: Path) -> None:
    (tmp_path / PRICES).write_text("in the way of the table's folder")
    with pytest.raises(StorageError, match="What was stored there before is unharmed"):
        read(Lake(tmp_path, durability="rename"), Told(until(0)), listed())


@pytest.mark.parametrize(
    ("status", "payouts", "final"),
    [
        (ResolutionStatus.OPEN, None, False),
        (ResolutionStatus.DISPUTED, None, False),
        (ResolutionStatus.RESOLVED, (1_000_000, 0), True),
        (ResolutionStatus.VOID, None, True),
    ],
)
def test_a_state_is_asked_again_until_it_is_final(
    tmp_path: Path, status: ResolutionStatus, payouts: tuple[int, int] | None, final: bool
) -> None:
    lake, market = Lake(tmp_path, durability="rename"), listed()
    (outcome,) = asyncio.run(ingest_resolutions(Told(resolutions=resolved(status, payouts)), lake, [market]))
    assert (outcome.coverage.status, outcome.coverage.rows) == (CoverageStatus.COMPLETE, 1)
    info = lake.info("catalog.resolutions", str(market.key))
    assert info is not None
    assert info.meta == {ASKED_TO: str(FOREVER if final else NOW)}
    later = Told(now=NOW + HOUR)
    assert asyncio.run(_fresh(lake, later, "catalog.resolutions", market)) is final


def test_one_market_without_a_state_does_not_hide_those_of_the_others(tmp_path: Path) -> None:
    lake, markets = Lake(tmp_path, durability="rename"), [listed(name) for name in "ABC"]
    answers = {"A": lambda market: [], "B": lambda market: SourceError("a page is broken")}

    def say(market: Market) -> Any:
        return answers.get(market.key.native_id, resolved(ResolutionStatus.OPEN))(market)

    outcomes = asyncio.run(ingest_resolutions(Told(resolutions=say), lake, markets))
    assert [str(outcome.error) for outcome in outcomes] == [
        "kalshi said nothing about the state of kalshi:A",
        "a page is broken",
        "None",
    ]
    assert lake.partitions("catalog.resolutions") == [("kalshi:C",)]


async def _fresh(lake: Lake, adapter: PlatformAdapter, name: str, market: Market) -> bool:
    return is_fresh(adapter, lake, name, market, await adapter.now())


@pytest.mark.parametrize(
    ("closed", "later", "fresh"), [(True, True, True), (False, False, True), (False, True, False)]
)
def test_what_is_fresh_is_what_can_have_no_more(
    tmp_path: Path, closed: bool, later: bool, fresh: bool
) -> None:
    lake, market = Lake(tmp_path, durability="rename"), listed(closed=closed)
    assert not asyncio.run(_fresh(lake, Told(), PRICES, market))
    read(lake, Told(until(0)), market)
    assert asyncio.run(_fresh(lake, Told(now=NOW + (SECOND if later else 0)), PRICES, market)) is fresh


def test_a_close_that_the_catalog_learned_of_late_makes_a_reading_stale_once(tmp_path: Path) -> None:
    """It was asked for up to now when it had already closed: what it lacks or has too much is found."""
    lake, market = Lake(tmp_path, durability="rename"), listed(closed=False)
    read(lake, Told(until(0)), market)
    closed, adapter = replace(market, traded_until=NOW - HOUR), Told(until(0), now=NOW + DAY)
    assert not asyncio.run(_fresh(lake, adapter, PRICES, closed))
    read(lake, adapter, closed)
    assert asyncio.run(_fresh(lake, adapter, PRICES, closed))


class Killed(BaseException):
    """What ends a run between two writes."""


def kill(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize("name", [PRICES, "catalog.resolutions"])
@pytest.mark.parametrize("failed_before", [False, True])
def test_a_run_that_was_killed_before_it_wrote_its_coverage_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, failed_before: bool
) -> None:
    """The partition is whole, but nothing says so, or the failure of before still stands there."""
    lake, market = Lake(tmp_path, durability="rename"), listed()
    where = "ingest" if name == PRICES else "endings"
    told = Told(until(0), resolved(ResolutionStatus.RESOLVED, (1_000_000, 0)))

    def run(adapter: Told) -> None:
        if name == PRICES:
            read(lake, adapter, market)
        else:
            asyncio.run(ingest_resolutions(adapter, lake, [market]))

    if failed_before:
        coverage = read(lake, Told(), market, name="market_data.candles")[0].coverage
        failure = replace(coverage, table=name, source=name, status=CoverageStatus.FAILED)
        write_coverage(lake, failure)
    with monkeypatch.context() as patch:
        patch.setattr(f"pm_pipeline.sources.{where}.write_coverage", kill)
        with pytest.raises(Killed):
            run(told)
    assert lake.exists(name, str(market.key))
    assert not asyncio.run(_fresh(lake, Told(), name, market))
    run(told)
    assert asyncio.run(_fresh(lake, Told(), name, market))
    assert verdict(lake, [name], [market]).failed == ()


def test_coverage_of_an_earlier_reading_does_not_vouch_for_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, market = Lake(tmp_path, durability="rename"), listed(closed=False)
    read(lake, Told(until(0)), market)
    closed = replace(market, traded_until=NOW - HOUR)
    with monkeypatch.context() as patch:
        patch.setattr("pm_pipeline.sources.ingest.write_coverage", kill)
        with pytest.raises(Killed):
            read(lake, Told(until(0), now=NOW + DAY), closed)
    assert not asyncio.run(_fresh(lake, Told(now=NOW + DAY), PRICES, closed))


@pytest.mark.parametrize(
    ("open_quiet", "closed_quiet", "dead"),
    [
        ((), (), False),
        ((False, False), (False,), False),
        ((), (True, False), False),
        ((), (True, True, False), True),
        ((True, False), (False,) * 5, False),
        ((True,), (False,) * 9, True),
        ((False,) * 9, (True,), True),
    ],
)
def test_a_source_is_dead_when_most_of_what_trades_or_most_of_what_closed_is_quiet(
    tmp_path: Path, open_quiet: tuple[bool, ...], closed_quiet: tuple[bool, ...], dead: bool
) -> None:
    lake = Lake(tmp_path, durability="rename")
    markets = [
        (listed(f"{kind}{number}", hours=96, closed=kind == "C"), quiet)
        for kind, states in (("O", open_quiet), ("C", closed_quiet))
        for number, quiet in enumerate(states)
    ]
    silent = {market.key for market, quiet in markets if quiet}
    everything = [market for market, _ in markets]
    read(lake, Told(lambda m: until(60 if m.key in silent else 0)(m)), *everything)
    found = verdict(lake, [PRICES, "market_data.trades"], everything)
    assert (found.dead, found.failed) == (dead, ())
    assert found.quiet == tuple(sorted(str(key) for key in silent))


def test_a_failure_is_remembered_until_the_market_is_read(tmp_path: Path) -> None:
    lake, market = Lake(tmp_path, durability="rename"), listed()

    def fail(_: Market) -> Sequence[Nanos]:
        raise SourceError("HTTP 500")

    read(lake, Told(fail), market)
    assert verdict(lake, [PRICES], [market]).failed == ("kalshi:A",)
    read(lake, Told(until(0)), market)
    assert verdict(lake, [PRICES], [market]).failed == ()


def test_what_breaks_a_rule_is_withdrawn_and_asked_again(tmp_path: Path) -> None:
    lake, market = Lake(tmp_path, durability="rename"), listed()
    (outcome,) = read(lake, Told(until(0)), market)
    after = withdraw(lake, outcome, "it lies")
    assert isinstance(after.error, SourceError)
    assert verdict(lake, [PRICES], [market]).failed == ("kalshi:A",)
    assert not asyncio.run(_fresh(lake, Told(), PRICES, market))


def test_rows_that_are_withdrawn_are_kept_aside_for_they_may_be_all_there_is(tmp_path: Path) -> None:
    lake, market = Lake(tmp_path, durability="rename"), listed()
    (outcome,) = read(lake, Told(until(0)), market)
    [path] = lake.paths(PRICES)
    before = path.read_bytes()
    after = withdraw(lake, outcome, "it lies")
    assert not lake.exists(PRICES, str(market.key))
    assert lake.partitions(PRICES) == []
    [aside] = (tmp_path / "_withdrawn").rglob("*.parquet")
    assert aside.read_bytes() == before
    assert after.coverage.reason == "it lies"
    assert lake.set_aside(PRICES, str(market.key)) is None
