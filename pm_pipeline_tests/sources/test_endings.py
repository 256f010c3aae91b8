"""Endings into the lake: claims beside each other, contested ends, and ends that are said to have changed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pm_pipeline.defs.market_data.checked import withdrawn
from pm_pipeline.defs.market_data.checks import CHECKS
from pm_pipeline.markets.clock import HOUR, Nanos
from pm_pipeline.markets.market import GroupKind, Market, MarketGroup
from pm_pipeline.markets.resolution import Claim, Resolution, ResolutionStatus
from pm_pipeline.sources.adapter import Ending
from pm_pipeline.sources.endings import (
    ChangedEndError,
    ContestedEndError,
    former_state,
    ingest_resolutions,
    keep,
)
from pm_pipeline.sources.errors import SourceError
from pm_pipeline.sources.ingest import RESOLUTIONS, Outcome
from pm_pipeline.warehouse.catalog import Catalog
from pm_pipeline.warehouse.claims import CLAIMS, add_claims, claims_from_table, latest_claims
from pm_pipeline.warehouse.coverage import CoverageStatus, read_coverage
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline_tests.sources.test_ingest import NOW, Killed, Told, kill, listed
from pm_pipeline_tests.warehouse.builders import lake_at, market

YES, NO, HALF = (1_000_000, 0), (0, 1_000_000), (500_000, 500_000)
POLY = market("polymarket:1")
NEG_RISK = replace(POLY, exclusive_group=True, group_key="polymarket:g")


def said(payouts: Any, of: Market = POLY, source: str = "data", at: Nanos = NOW) -> Resolution:
    return Resolution(
        market_key=of.key,
        status=ResolutionStatus.RESOLVED if payouts else ResolutionStatus.PENDING,
        payouts=payouts,
        closed_at=at,
        resolved_at=at if payouts else None,
        known_at=at,
        source=source,
    )


def claim(source: str, payouts: Any, of: Market = POLY, *, at: Nanos = NOW, **changes: Any) -> Claim:
    return replace(Claim.of(said(payouts, of, at=at), at), source=source, **changes)


def ending(payouts: Any, *claims: Claim, of: Market = POLY, source: str = "data") -> Ending:
    return Ending(of, said(payouts, of, source), claims or (claim(source, payouts, of),))


def check(name: str) -> Any:
    return next(found for found in CHECKS["resolutions"] if found.name == name)


def test_claims_are_kept_beside_each_other_and_only_when_they_change(tmp_path: Path) -> None:
    lake, key = lake_at(tmp_path), str(POLY.key)
    add_claims(lake, key, [claim("data", None), claim("gamma", None)])
    add_claims(lake, key, [claim("data", None, at=NOW + HOUR), claim("gamma", YES, at=NOW + HOUR)])
    add_claims(lake, key, [])
    rows = claims_from_table(lake.read(CLAIMS, key))
    assert [(c.source, c.payouts, c.known_at) for c in rows] == [
        ("data", None, NOW),
        ("gamma", None, NOW),
        ("gamma", YES, NOW + HOUR),
    ]
    assert {name: c.payouts for name, c in latest_claims(lake, key).items()} == {"data": None, "gamma": YES}
    assert rows[2] == claim("gamma", YES, at=NOW + HOUR)
    assert latest_claims(lake, "polymarket:2") == {}


@pytest.mark.parametrize(
    ("change"),
    [
        {"payouts": NO},
        {"status": ResolutionStatus.DISPUTED},
        {"was_disputed": True},
        {"trusted": False},
        {"note": "another"},
        {"resolved_at": NOW + HOUR},
    ],
)
def test_whatever_a_source_says_anew_is_another_claim(tmp_path: Path, change: dict[str, Any]) -> None:
    lake, key = lake_at(tmp_path), str(POLY.key)
    add_claims(lake, key, [claim("data", YES)])
    add_claims(lake, key, [replace(claim("data", YES), known_at=NOW + HOUR, **change)])
    assert lake.read(CLAIMS, key).num_rows == 2


def test_an_end_that_sources_contest_is_no_end(tmp_path: Path) -> None:
    lake, key = lake_at(tmp_path), str(POLY.key)
    assert keep(lake, ending(YES), NOW).error is None
    outcome = keep(lake, ending(YES, claim("data", YES), claim("clob", NO)), NOW)
    assert isinstance(outcome.error, ContestedEndError)
    assert str(outcome.error) == (
        "sources contradict each other about polymarket:1: data says 1/0; clob says 0/1"
    )
    assert not lake.exists(RESOLUTIONS, key)
    [coverage] = read_coverage(lake, RESOLUTIONS, key)
    assert (coverage.status, coverage.reason) == (CoverageStatus.FAILED, str(outcome.error))
    [(found, words)] = check("sources_agree_on_the_end").find(lake, [outcome])
    assert (found, words) == (key, "clob says 0/1; data says 1/0")
    # once they agree again, the state is there again
    assert keep(lake, ending(YES, claim("data", YES), claim("clob", YES)), NOW).error is None
    assert check("sources_agree_on_the_end").find(lake, [outcome]) == []
    assert lake.exists(RESOLUTIONS, key)


def test_a_kill_while_a_contest_is_written_down_leaves_no_state_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claims would be there, and beside them a state that is final and never asked for again."""
    lake, key = lake_at(tmp_path), str(POLY.key)
    assert keep(lake, ending(YES), NOW).error is None
    contested = ending(YES, claim("data", YES), claim("clob", NO))
    with monkeypatch.context() as patch:
        patch.setattr("pm_pipeline.sources.endings.write_coverage", kill)
        patch.setattr(lake, "delete", kill)
        with pytest.raises(Killed):
            keep(lake, contested, NOW)
    assert latest_claims(lake, key).keys() == {"data"}
    assert isinstance(keep(lake, contested, NOW).error, ContestedEndError)
    assert former_state(lake, key) is None


@pytest.mark.parametrize("of", [NEG_RISK, replace(NEG_RISK, exclusive_group=False)])
def test_a_neg_risk_market_cannot_be_split(tmp_path: Path, of: Market) -> None:
    """Nor one of an augmented group, of which an outcome without a market may win."""
    lake = lake_at(tmp_path)
    assert keep(lake, ending(HALF), NOW).error is None
    outcome = keep(lake, ending(HALF, of=of), NOW)
    assert "data says 0.5/0.5, but a market of a neg-risk group cannot be split" in str(outcome.error)


@pytest.mark.parametrize("now_says", [NO, HALF, None])
def test_a_paid_market_stays_paid_and_the_other_word_is_an_error(tmp_path: Path, now_says: Any) -> None:
    lake, key = lake_at(tmp_path), str(POLY.key)
    keep(lake, ending(YES), NOW)
    outcome = keep(lake, ending(now_says, source="chain"), NOW + HOUR)
    assert isinstance(outcome.error, ChangedEndError)
    assert "was resolved with 1/0 by data" in str(outcome.error)
    shown = {NO: "0/1", HALF: "0.5/0.5", None: "nothing"}[now_says]
    assert f"with {shown} by chain" in str(outcome.error)
    former = former_state(lake, key)
    assert former is not None
    assert (former.payouts, former.source) == (YES, "data")
    assert set(latest_claims(lake, key)) == {"data", "chain"}
    rule = check("a_paid_market_stays_paid")
    assert rule.find(lake, [outcome]) == [(key, str(outcome.error))]
    assert not rule.blocking


def test_the_same_payout_by_a_better_source_is_taken(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    keep(lake, ending(YES, source="gamma"), NOW)
    assert keep(lake, ending(YES, source="chain"), NOW + HOUR).error is None
    former = former_state(lake, str(POLY.key))
    assert former is not None
    assert former.source == "chain"


class Batches(Told):
    """Answers for many markets at once, and fails where it is told to."""

    endings_at_once = 3

    def __init__(self, broken: str = "", down: str = "") -> None:
        super().__init__()
        self.broken, self.down, self.asked = broken, down, list[list[str]]()

    async def get_endings(self, markets: Sequence[Market]) -> AsyncIterator[Ending]:
        self.asked.append([each.key.native_id for each in markets])
        for each in markets:
            if each.key.native_id == self.down:
                raise SourceError("the source is down")
            if each.key.native_id == self.broken:
                yield Ending(each, None, (), SourceError("this one makes no sense"))
            else:
                yield ending(YES, of=each)


@pytest.mark.parametrize(
    ("adapter", "failed"),
    [
        (Batches(), {}),
        (Batches(broken="B"), {"B": "this one makes no sense"}),
        (Batches(down="B"), {"B": "the source is down", "C": "the source is down"}),
    ],
)
def test_markets_are_asked_for_together_and_fail_apart(
    tmp_path: Path, adapter: Batches, failed: dict[str, str]
) -> None:
    lake, heard = lake_at(tmp_path), list[Outcome]()
    markets = [listed(name) for name in "ABCD"]
    outcomes = asyncio.run(ingest_resolutions(adapter, lake, markets, done=heard.append))
    assert adapter.asked == [["A", "B", "C"], ["D"]]
    assert [outcome.market_key for outcome in outcomes] == [str(each.key) for each in markets]
    assert {o.market_key[-1]: str(o.error) for o in outcomes if o.error} == failed
    assert sorted(o.market_key for o in heard) == [o.market_key for o in outcomes]
    assert len(lake.partitions(RESOLUTIONS)) == 4 - len(failed)


def test_a_bug_is_no_outcome(tmp_path: Path) -> None:
    class Buggy(Batches):
        async def get_endings(self, markets: Sequence[Market]) -> AsyncIterator[Ending]:
            raise ZeroDivisionError
            yield  # type: ignore[unreachable]

    with pytest.raises(ZeroDivisionError):
        asyncio.run(ingest_resolutions(Buggy(), lake_at(tmp_path), [listed()]))


# --- groups ---------------------------------------------------------------------------------------------


def grouped(lake: Lake, monkeypatch: pytest.MonkeyPatch, *, exhaustive: bool) -> list[Market]:
    members = [replace(market(f"polymarket:{n}"), exclusive_group=True, group_key="g") for n in range(3)]
    group = MarketGroup("g", tuple(m.key for m in members), True, exhaustive, GroupKind.NEG_RISK)
    monkeypatch.setattr(Catalog, "groups", lambda self: {"g": group})
    return members


@pytest.mark.parametrize(
    ("payouts", "exhaustive", "bad", "words"),
    [
        ((YES, NO, NO), True, [], ""),
        ((YES, NO, None), True, [], ""),
        ((NO, NO, None), True, [], ""),
        ((NO, NO, NO), False, [], ""),
        ((YES, YES, None), False, ["0", "1"], "has 2 winners: polymarket:0, polymarket:1"),
        ((NO, NO, NO), True, ["0", "1", "2"], "has no winner among its 3 markets, all resolved"),
    ],
)
def test_a_group_has_one_winner(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    payouts: Any,
    exhaustive: bool,
    bad: list[str],
    words: str,
) -> None:
    lake = lake_at(tmp_path)
    members = grouped(lake, monkeypatch, exhaustive=exhaustive)
    outcomes = [keep(lake, ending(paid, of=m), NOW) for m, paid in zip(members, payouts, strict=True)]
    rule = check("one_winner_per_group")
    found = rule.find(lake, outcomes)
    assert [key.partition(":")[2] for key, _ in found] == bad
    assert all(words in said for _, said in found)
    after = withdrawn(lake, rule, found, outcomes)
    assert rule.blocking
    assert [o.market_key for o in after if o.error] == [f"polymarket:{n}" for n in bad]
    assert len(lake.partitions(RESOLUTIONS)) == 3 - len(bad)
    # a run that holds no member of the group does not speak of it
    assert rule.find(lake, []) == []
