import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import dagster as dg
import pyarrow as pa
import pyarrow.compute
import pytest

from pm_pipeline import definitions
from pm_pipeline.defs.catalog import assets
from pm_pipeline.defs.catalog.assets import read_catalog, write_catalog
from pm_pipeline.defs.catalog.sensors import universe_sensor
from pm_pipeline.defs.market_data.assets import find_markets
from pm_pipeline.defs.partitions import MARKET_GROUPS, MARKETS
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import parse_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import GroupKind
from pm_pipeline.markets.rules import RuleBook
from pm_pipeline.sources.adapter import Listing
from pm_pipeline.sources.errors import BadRequest, SourceError
from pm_pipeline.sources.identity import moved
from pm_pipeline.sources.listings import CatalogRows
from pm_pipeline.universe import Universe
from pm_pipeline_tests.markets.builders import a_market
from pm_pipeline_tests.workdir import Workdir

Faulty = Callable[..., AbstractContextManager[str]]
TODAY = "2026-06-30"


def universe(**wanted: object) -> Universe:
    return Universe.parse({"markets": [{"venue": "polymarket", **wanted}]}, "test")


def evaluation(result: dg.ExecuteInProcessResult, name: str) -> dg.AssetCheckEvaluation:
    (check,) = [check for check in result.get_asset_check_evaluations() if check.check_name == name]
    return check


def test_the_catalog_of_today_is_read_once_and_added_to(empty: Workdir) -> None:
    workspace = Workspace()
    for slug in ("small-won-2026-06-25", "small-tie-2026-06-21"):
        reading = asyncio.run(read_catalog(workspace, universe(ids=[slug])))
        result = write_catalog(workspace, [TODAY], reading)
        assert result.metadata is not None
        assert (result.metadata["dagster/row_count"], result.metadata["world"]) == (1, "SANDBOX SMALL_WORLD")
    # the second universe does not drop what the first one read
    assert (len(workspace.catalog.markets()), len(workspace.catalog.events())) == (2, 2)
    assert all(market.event_slug for market in workspace.catalog.markets().values())
    write_catalog(workspace, [TODAY], reading)
    assert (len(workspace.catalog.markets()), len(workspace.catalog.events())) == (2, 2)
    assert len(empty.rows("catalog.instruments")) == 4


@pytest.mark.parametrize("venue", ["polymarket", "kalshi"])
def test_a_market_that_is_followed_is_asked_for_although_its_date_was_moved(
    empty: Workdir, venue: str
) -> None:
    """Who only lists what closes on the days of the universe never learns how it ended.

    A market that the venue does not know any more is left as it is.
    """
    workspace = Workspace()
    everything = Universe.parse({"markets": [{"venue": venue}]}, "test")
    reading = asyncio.run(read_catalog(workspace, everything))
    markets = reading.tables["catalog.markets"]
    at = next(n for n, end in enumerate(markets["traded_until"].to_pylist()) if end is not None)
    [row] = markets.slice(at, 1).to_pylist()
    moved = row["scheduled_close"] + timedelta(days=700)
    outcomes = reading.tables["catalog.instruments"].to_pylist()
    own = [outcome for outcome in outcomes if outcome["market_key"] == row["market_key"]]
    then = row | {"scheduled_close": moved, "traded_until": None}
    gone = {"market_key": f"{venue}:99999999"}
    before = {"catalog.markets": [then, then | gone], "catalog.instruments": [*own, *(o | gone for o in own)]}
    tables = {name: pa.Table.from_pylist(rows, reading.tables[name].schema) for name, rows in before.items()}
    write_catalog(workspace, [TODAY], replace(reading, tables={**reading.tables, **tables}))
    day = moved.date().isoformat()
    bounded = Universe.parse({"markets": [{"venue": venue, "closes_from": day, "closes_to": day}]}, "test")
    again = asyncio.run(read_catalog(workspace, bounded)).tables["catalog.markets"]
    assert again["market_key"].to_pylist() == [row["market_key"]]
    assert again["traded_until"].to_pylist() == [row["traded_until"]]


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (["2026-06-29"], "source's day is 2026-06-30; materialise that partition instead of 2026-06-29"),
        ([TODAY, "2026-07-01"], "instead of 2026-07-01"),
    ],
)
def test_another_day_than_today_cannot_be_read(empty: Workdir, days: list[str], message: str) -> None:
    workspace = Workspace()
    reading = asyncio.run(read_catalog(workspace, universe()))
    with pytest.raises(UsageError, match=message):
        write_catalog(workspace, days, reading)
    assert empty.lake.partitions("catalog.markets") == []


def test_an_empty_universe_is_refused_and_nothing_written(empty: Workdir) -> None:
    workspace = Workspace()
    reading = asyncio.run(read_catalog(workspace, universe(closes_from="2030-01-01")))
    with pytest.raises(UsageError, match="matches no market of the source"):
        write_catalog(workspace, [TODAY], reading)
    assert empty.lake.partitions("catalog.markets") == []


def test_an_unknown_name_gets_the_nearest_that_was_read(seen: Workdir) -> None:
    wanted = universe(ids=["small-wom-2026-06-25"])
    with pytest.raises(UsageError, match="no market 'small-wom-2026-06-25'; did you mean 'small-won"):
        asyncio.run(read_catalog(Workspace(), wanted))


def test_a_refusal_that_is_no_404_stays_a_failure_of_the_source(
    empty: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> AsyncIterator[Listing]:
        raise BadRequest("HTTP 400: too clever", 400)

    monkeypatch.setattr("pm_pipeline.defs.catalog.assets._crawl", refuse)
    with pytest.raises(SourceError, match="too clever"):
        asyncio.run(read_catalog(Workspace(), universe()))


def test_the_sensor_registers_the_markets_of_the_universe_and_then_rests(seen: Workdir) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, resources={"workspace": Workspace()})
        result = universe_sensor(context)
        assert isinstance(result, dg.SensorResult)
        asked = {
            r.partitions_def_name: list(r.partition_keys) for r in result.dynamic_partitions_requests or ()
        }
        known = Workspace().catalog.markets()
        groups = sorted(market.group_key for market in known.values() if market.group_key)
        assert asked == {"markets": sorted(known), "market_groups": groups}
        for name, keys in asked.items():
            instance.add_dynamic_partitions(name, keys)
        rested = universe_sensor(context)
        assert isinstance(rested, dg.SkipReason)
        assert rested.skip_message == "all 6 markets of the universe are registered"


def test_groups_are_registered_too(empty: Workdir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PM_SANDBOX_WORLD")
    workspace = Workspace()
    wanted = Universe.parse({"markets": [{"venue": "kalshi", "series": ["KXHIGHNY"]}]}, "test")
    write_catalog(workspace, [TODAY], asyncio.run(read_catalog(workspace, wanted)))
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, resources={"workspace": workspace})
        result = universe_sensor(context)
    assert isinstance(result, dg.SensorResult)
    asked = {r.partitions_def_name: list(r.partition_keys) for r in result.dynamic_partitions_requests or ()}
    assert len(asked[str(MARKETS.name)]) == 12
    assert asked[str(MARKET_GROUPS.name)] == ["kalshi:KXHIGHNY-26JUN26", "kalshi:KXHIGHNY-26JUN29"]


def test_a_run_charges_what_the_venue_listed_with_its_markets(
    empty: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PM_SANDBOX_WORLD")
    workspace = Workspace()
    wanted = Universe.parse({"markets": [{"venue": "kalshi", "series": ["KXHIGHNY", "KXPAYROLLS"]}]}, "test")
    reading = asyncio.run(read_catalog(workspace, wanted))
    now, fees = reading.now, reading.fees
    write_catalog(workspace, [TODAY], reading)
    markets = workspace.catalog.markets().values()
    assert {fee.scope for fee in fees} == {"series:KXHIGHNY", "series:KXPAYROLLS"}
    listed = [replace(fee, multiplier=Decimal("0.5"), source="the sandbox") for fee in fees]
    write_catalog(workspace, [TODAY], replace(reading, fees=listed))
    for market in markets:
        rule = workspace.rules.fee(market, now)
        assert (rule.taker_multiplier, rule.source.partition(";")[0]) == (Decimal("0.5"), "the sandbox")
        assert rule.maker_multiplier == (Decimal("0.5") if market.series == "KXPAYROLLS" else 0)
    # a second universe of that day leaves what the first has listed
    of_one = [fee for fee in fees if fee.scope == "series:KXHIGHNY"]
    write_catalog(workspace, [TODAY], replace(reading, fees=of_one))
    found = {market.series: workspace.rules.fee(market, now).taker_multiplier for market in markets}
    assert found == {"KXHIGHNY": 1, "KXPAYROLLS": Decimal("0.5")}


def test_a_polymarket_catalog_lists_no_fees_beside_its_markets(empty: Workdir) -> None:
    workspace = Workspace()
    reading = asyncio.run(read_catalog(workspace, universe()))
    assert reading.fees == []
    write_catalog(workspace, [TODAY], reading)
    assert empty.lake.partitions("catalog.listed_fees") == []
    assert workspace.rules is RuleBook.default()


def test_an_account_kept_in_cents_is_charged_in_cents(
    empty: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PM_KALSHI_BALANCE", "cents")
    rule = Workspace().rules.fee(a_market("kalshi:KXHIGHNY-1"), parse_time("2026-10-01"))
    assert (rule.balance_step, rule.rebate_step) == (10_000, 10_000)
    monkeypatch.setenv("PM_KALSHI_BALANCE", "dimes")
    with pytest.raises(UsageError, match="PM_KALSHI_BALANCE"):
        _ = Workspace().rules


def test_the_schedule_asks_for_the_day_that_has_just_begun() -> None:
    schedule = definitions.defs.resolve_schedule_def("daily_catalog")
    assert schedule.cron_schedule == "20 0 * * *"
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    moment = datetime(2026, 6, 30, 0, 20, tzinfo=UTC)
    tick = schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=moment))
    assert [request.partition_key for request in tick.run_requests or ()] == [TODAY]


@pytest.mark.parametrize("name", ["catalog", "prices", "trades", "candles", "book_events", "resolutions"])
def test_what_is_read_daily_shows_as_stale_when_a_day_was_missed(name: str) -> None:
    policy = definitions.defs.resolve_asset_graph().get(dg.AssetKey(name)).freshness_policy
    assert policy is not None
    assert policy.fail_window.to_timedelta().days == 2  # type: ignore[attr-defined]


def test_a_market_that_the_catalog_does_not_know_is_refused(seen: Workdir) -> None:
    with pytest.raises(UsageError, match="1 of the 1 markets, first 'kalshi:KXSMAL'; did you mean"):
        find_markets(Workspace(), ["kalshi:KXSMAL"])


def test_a_whole_venue_is_kept_with_its_events_and_groups(
    empty: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PM_SANDBOX_WORLD")
    workspace = Workspace()
    wanted = Universe.parse(
        {"markets": [{"venue": "polymarket", "series": ["london-daily-weather"]}]}, "test"
    )
    write_catalog(workspace, [TODAY], asyncio.run(read_catalog(workspace, wanted)))
    (event,) = workspace.catalog.events().values()
    (group,) = workspace.catalog.groups().values()
    assert (event.slug, event.series) == (
        "highest-temperature-in-london-on-june-30-2026",
        "london-daily-weather",
    )
    assert (len(event.market_keys), event.placeholders) == (7, 1)
    assert event.scheduled_close == parse_time("2026-06-30T12:00:00Z")
    assert event.group_key == group.group_key
    assert set(group.market_keys) == set(event.market_keys)
    # the placeholder may win without a market of its own
    assert (group.exclusive, group.exhaustive, group.kind) == (True, False, GroupKind.NEG_RISK)
    assert group.event_ids == (event.event_id,)
    assert {m.event_slug for m in workspace.catalog.markets().values()} == {event.slug}


def test_one_strike_of_kalshi_brings_its_event_and_the_whole_group(
    empty: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PM_SANDBOX_WORLD")
    workspace = Workspace()
    wanted = Universe.parse({"markets": [{"venue": "kalshi", "ids": ["KXHIGHNY-26JUN26-T80"]}]}, "test")
    result = write_catalog(workspace, [TODAY], asyncio.run(read_catalog(workspace, wanted)))
    assert result.metadata is not None
    assert (result.metadata["dagster/row_count"], result.metadata["events"], result.metadata["groups"]) == (
        1,
        1,
        1,
    )
    (event,) = workspace.catalog.events().values()
    (group,) = workspace.catalog.groups().values()
    assert (event.key, event.series, event.tags) == (
        "kalshi:KXHIGHNY-26JUN26",
        "KXHIGHNY",
        ("Daily temperature",),
    )
    assert len(group.market_keys) == 6
    assert (group.exclusive, group.exhaustive, group.kind) == (True, False, GroupKind.STRIKES)
    assert list(workspace.catalog.markets()) == ["kalshi:KXHIGHNY-26JUN26-T80"]


def test_a_universe_chosen_by_volume_is_marked_as_later_knowledge(empty: Workdir) -> None:
    workspace = Workspace()
    for least, marked in ((0, []), (1, ["min_volume_usd"])):
        reading = asyncio.run(read_catalog(workspace, universe(min_volume_usd=least)))
        result = write_catalog(workspace, [TODAY], reading)
        assert result.metadata is not None
        assert result.metadata["chosen_with_later_knowledge"] == marked


def test_a_listing_with_fewer_events_than_the_venue_counts_is_kept_and_warned_of(
    empty: Workdir, faulty: Faulty
) -> None:
    words = ("fetch", "--platform", "polymarket")
    with faulty("stale@/events/keyset#2"):
        short = empty.bt(*words)
    assert short.exit_code == 0, short.output
    assert re.search(r"\d+ of \d+ events of Polymarket were counted but not listed", short.stderr)
    assert "counted but not listed" not in empty.bt(*words).stderr

    for planned, missing in (("stale@/events/keyset#2", True), ("stale@/markets/keyset", False)):
        with faulty(planned):
            result = empty.materialise("ingest_catalog", TODAY)
        assert result.success
        check = evaluation(result, "listing_is_whole")
        assert check.severity == dg.AssetCheckSeverity.WARN
        assert check.passed is not missing
        assert check.metadata["counted"].value == 1
        assert ("counted but not listed" in str(check.metadata["missing"].value)) is missing


def swapped(instruments: pa.Table, columns: tuple[str, ...]) -> pa.Table:
    """The outcomes of every market, each with these names of the other one."""
    rows = instruments.sort_by([("market_key", "ascending"), ("outcome_index", "ascending")]).to_pylist()
    pairs = zip(rows[::2], rows[1::2], strict=True)
    turned = [
        one | {name: other[name] for name in columns} for pair in pairs for one, other in (pair, pair[::-1])
    ]
    return pa.Table.from_pylist(turned, instruments.schema)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (("token_id", "position_id", "label"), "token_id"),
        (("token_id",), "token_id"),
        (("position_id",), "position_id"),
        (("label",), "label"),
    ],
)
def test_a_market_whose_outcomes_changed_places_stays_as_it_was_and_is_an_error(
    seen: Workdir, columns: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prices and fills are stored by the number of an outcome: every position would turn around."""
    before = Workspace().catalog.markets()

    class Turned(CatalogRows):
        def tables(self) -> dict[str, pa.Table]:
            found = super().tables()
            instruments = found["catalog.instruments"]
            here = pa.compute.starts_with(instruments["market_key"], "polymarket")
            turned = swapped(instruments.filter(here), columns)
            others = instruments.filter(pa.compute.invert(here))
            return found | {"catalog.instruments": pa.concat_tables([turned, others])}

    with monkeypatch.context() as patched:
        patched.setattr(assets, "CatalogRows", Turned)
        result = seen.materialise("ingest_catalog", TODAY)
    check = evaluation(result, "outcomes_keep_their_place")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    polymarket = [market for market in before.values() if market.key.venue is Venue.POLYMARKET]
    assert check.metadata["violations"].value == len(polymarket) * 2
    assert f"outcome 0 had the {told} " in str(check.metadata["first"].value)
    (written,) = result.asset_materializations_for_node("catalog")
    assert written.metadata["dagster/row_count"].value == len(before) - len(polymarket)
    assert Workspace().catalog.markets() == before
    again = seen.materialise("ingest_catalog", TODAY)
    assert all(check.passed for check in again.get_asset_check_evaluations())


def test_a_label_may_be_worded_anew_and_an_id_that_was_unknown_be_learned(seen: Workdir) -> None:
    former = Workspace().catalog.outcomes()
    rows = former.to_pylist()
    unknown = pa.Table.from_pylist([row | {"position_id": None} for row in rows], former.schema)
    worded = [row | {"label": f"{row['label']} (new)"} for row in rows]
    assert moved(former, unknown) == []
    assert moved(unknown, former) == []
    assert moved(pa.Table.from_pylist(worded, former.schema), former) == []
    assert moved(former, former.slice(0, 0)) == []
