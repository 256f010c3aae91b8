"""Each rule of market data passes on good rows and fails on planted bad ones."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from pm_pipeline.defs.market_data.assets import TABLES
from pm_pipeline.defs.market_data.checked import result_of, withdrawn
from pm_pipeline.defs.market_data.checks import CHECKS, Check
from pm_pipeline.markets.clock import SECOND
from pm_pipeline.sources.ingest import Outcome
from pm_pipeline.warehouse.coverage import Coverage, CoverageStatus, read_coverage
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.schema import table

KEY = "kalshi:M"
START = 1_780_000_000
Row = Mapping[str, Any]


def price(t: float, outcome: int = 0, mid: int | None = 400_000, **columns: Any) -> Row:
    return _observed(t) | {
        "outcome_index": outcome,
        "mid": mid,
        "bid": None,
        "ask": None,
        "resolution_s": 0,
        "source": "x",
        **columns,
    }


def candle(t: float, **columns: Any) -> Row:
    quotes = {
        f"{what}_{point}": {"low": 100_000, "high": 300_000}.get(point, 200_000)
        for what in ("bid", "ask", "price")
        for point in ("open", "high", "low", "close")
    }
    return _observed(t) | quotes | {"outcome_index": 0, "period_s": 60, "volume": 1, "source": "x", **columns}


def trade(t: float, **columns: Any) -> Row:
    named = {"trade_id": "x", "ordinal": 0, "side": "buy", "side_evidence": "feed", "is_block": False}
    given = {"outcome_index": 0, "price": 400_000, "size": 1_000_000}
    return _observed(t) | named | given | {"source": "x", **columns}


def event(seq: int, kind: str, **columns: Any) -> Row:
    return _observed(seq) | {"seq": seq, "kind": kind, "side": None, "price": None, "size": None, **columns}


def level(seq: int, **columns: Any) -> Row:
    return event(seq, "level", **{"side": "bid", "price": 400_000, "size": 1, **columns})


def ended(t: float = 0, **columns: Any) -> Row:
    return _observed(t) | {
        "status": "resolved",
        "payouts": [1_000_000, 0],
        "closed_at": None,
        "resolved_at": None,
        "was_disputed": False,
        "source": "x",
        **columns,
    }


def _observed(t: float) -> dict[str, Any]:
    at = pa.scalar(int((START + t) * 1_000_000), pa.timestamp("us", "UTC")).as_py()
    return {"market_key": KEY, "ts": at, "known_at": at, "ingested_at": at}


def before(t: float) -> Any:
    return _observed(t - 1)["ts"]


GOOD: dict[str, Sequence[Row]] = {
    "prices": [
        price(0),
        price(0, outcome=1, mid=600_000),
        price(60, bid=390_000, ask=410_000),
        price(60, outcome=1, mid=None),
        price(60, resolution_s=60),
        price(120, mid=0, bid=0, ask=0),
        price(120, outcome=1, mid=1_000_000),
    ],
    "candles": [candle(0), candle(60, price_low=None, price_open=None, price_high=None, price_close=None)],
    "trades": [trade(0), trade(0), trade(1, price=0), trade(2, price=1_000_000)],
    "book_events": [
        event(1, "reset"),
        level(1),
        level(2, size=0),
        event(3, "gap"),
        event(4, "reset"),
        level(4),
    ],
    "resolutions": [ended()],
}

BAD: list[tuple[str, str, Sequence[Row], str]] = [
    ("prices", "prices_are_probabilities", [price(0, mid=1_000_001)], "1 rows"),
    ("prices", "prices_are_probabilities", [price(0, mid=-1), price(1, ask=1_500_000)], "2 rows"),
    ("prices", "prices_are_probabilities", [price(0, bid=-1)], "1 rows"),
    ("prices", "prices_are_probabilities", [price(0, bid=500_000, ask=400_000)], "1 rows"),
    ("prices", "time_moves_forward", [price(0), price(0, mid=500_000)], "twice at 2026-05-28"),
    ("prices", "time_moves_forward", [price(5, known_at=before(5))], "known before it was true"),
    ("prices", "outcomes_sum_to_one", [price(30), price(0, outcome=1, mid=500_000)], "they sum to 0.9"),
    ("prices", "coverage", [], "the source has no rows"),
    ("candles", "candles_are_ordered", [candle(0, price_low=250_000)], "1 rows"),
    ("candles", "candles_are_ordered", [candle(0, price_high=150_000)], "1 rows"),
    ("candles", "candles_are_ordered", [candle(0, bid_low=400_000)], "1 rows"),
    ("candles", "candles_are_ordered", [candle(0, ask_high=50_000)], "1 rows"),
    ("candles", "candles_are_ordered", [candle(0, volume=-1)], "1 rows"),
    ("trades", "trades_are_possible", [trade(0, price=1_000_001)], "1 rows"),
    ("trades", "trades_are_possible", [trade(0, size=0)], "1 rows"),
    ("trades", "trades_are_possible", [trade(5, known_at=before(5))], "1 rows"),
    ("trades", "coverage", [], "the source has no rows"),
    (
        "book_events",
        "book_levels_are_possible",
        [event(1, "reset"), level(1, price=-1)],
        "1 impossible levels",
    ),
    (
        "book_events",
        "book_levels_are_possible",
        [event(1, "reset"), level(1, size=-1)],
        "1 impossible levels",
    ),
    ("book_events", "book_levels_are_possible", [level(1), event(2, "reset")], "before the first reset"),
    ("book_events", "book_levels_are_possible", [level(1)], "before the first reset"),
    ("resolutions", "one_payout_per_market", [ended(payouts=[1_000_000, 1_000_000])], "pays 2"),
    ("resolutions", "one_payout_per_market", [ended(payouts=[500_000, 0])], "pays 0.5"),
    ("resolutions", "one_payout_per_market", [ended(payouts=None)], "pays nothing"),
    ("resolutions", "one_payout_per_market", [ended(), ended(payouts=[0, 1_000_000])], "2 states at once"),
]


def stored(lake: Lake, name: str, rows: Sequence[Row]) -> Outcome:
    columns = table(TABLES[name]).arrow
    names = columns.names
    given = [{key: row.get(key) for key in names} for row in rows]
    lake.write(TABLES[name], KEY, pa.Table.from_pylist(given, schema=columns))
    return Outcome(
        KEY,
        Coverage(
            table=TABLES[name],
            partition=(KEY,),
            source="x",
            status=CoverageStatus.COMPLETE if rows else CoverageStatus.EMPTY,
            asked_from=START * SECOND,
            asked_to=START * SECOND,
            got_from=None,
            got_to=None,
            rows=len(rows),
            gaps=0,
            reason="" if rows else "the source has no rows",
            ingested_at=START * SECOND,
        ),
    )


def check_named(name: str, check: str) -> Check:
    return next(found for found in CHECKS[name] if found.name == check)


@pytest.mark.parametrize(
    ("name", "check"), [(name, check.name) for name, checks in CHECKS.items() for check in checks]
)
def test_good_rows_pass(tmp_path: Path, name: str, check: str) -> None:
    lake = Lake(tmp_path, durability="rename")
    assert check_named(name, check).find(lake, [stored(lake, name, GOOD[name])]) == []


@pytest.mark.parametrize(("name", "check", "rows", "detail"), BAD)
def test_planted_bad_rows_fail(
    tmp_path: Path, name: str, check: str, rows: Sequence[Row], detail: str
) -> None:
    lake = Lake(tmp_path, durability="rename")
    ((key, said),) = check_named(name, check).find(lake, [stored(lake, name, rows)])
    assert key == KEY
    assert detail in said


OF_CLAIMS = ("sources_agree_on_the_end", "one_winner_per_group", "a_paid_market_stays_paid")
"""Checks that look at more than rows of one table: see sources/test_endings.py."""


def test_every_check_is_tried_with_bad_rows() -> None:
    tried = {(name, check) for name, check, _, _ in BAD} | {("resolutions", name) for name in OF_CLAIMS}
    assert tried == {(name, check.name) for name, checks in CHECKS.items() for check in checks}


def test_nothing_to_look_at_passes(tmp_path: Path) -> None:
    lake = Lake(tmp_path, durability="rename")
    for name in ("candles", "book_events", "resolutions"):
        outcome = stored(lake, name, [])
        assert [check.find(lake, [outcome]) for check in CHECKS[name]] == [[]] * len(CHECKS[name])


def test_only_the_markets_of_the_run_are_looked_at(tmp_path: Path) -> None:
    lake = Lake(tmp_path, durability="rename")
    stored(lake, "trades", [trade(0, size=0)])
    rule = check_named("trades", "trades_are_possible")
    assert rule.find(lake, []) == []
    other = replace(stored(lake, "trades", [trade(0, size=0)]), market_key="kalshi:it's")
    assert rule.find(lake, [other]) == []


def test_a_violation_is_withdrawn_and_its_reason_kept(tmp_path: Path) -> None:
    lake = Lake(tmp_path, durability="rename")
    outcome = stored(lake, "trades", [trade(0, size=0)])
    check = check_named("trades", "trades_are_possible")
    (after,) = withdrawn(lake, check, check.find(lake, [outcome]), [outcome])
    assert not lake.exists("market_data.trades", KEY)
    assert str(after.error) == "trades_are_possible: 1 rows"
    (coverage,) = read_coverage(lake, "market_data.trades", KEY)
    assert (coverage.status, coverage.rows, coverage.reason) == (
        CoverageStatus.FAILED,
        0,
        "trades_are_possible: 1 rows",
    )
    assert withdrawn(lake, check, [], [outcome]) == [outcome]


def test_a_result_says_how_many_and_which() -> None:
    check = check_named("trades", "coverage")
    failed = result_of(check, [(f"kalshi:{n}", "why") for n in range(30)], 40)
    assert (failed.passed, failed.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert failed.metadata["violations"].value == 30
    assert str(failed.metadata["first"].value).count("\n") == 19
    assert result_of(check, [], 40).metadata["first"].value == "none"
