"""The catalog of markets, read once a day, and the dated rules of the venues."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import dagster as dg
import pyarrow as pa

from pm_pipeline.defs.config import Markets
from pm_pipeline.defs.interrupts import complete
from pm_pipeline.defs.io_manager import TABLE
from pm_pipeline.defs.market_data.checked import first_of
from pm_pipeline.defs.partitions import DAYS, READ_DAILY
from pm_pipeline.defs.resources import LISTED_FEES, Workspace
from pm_pipeline.errors import PipelineError, UsageError, did_you_mean
from pm_pipeline.markets.clock import Nanos, day_of
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.listed_fees import ListedFee
from pm_pipeline.sources.adapter import Listing, PlatformAdapter, Selection, Tally
from pm_pipeline.sources.errors import BadRequest, UnsupportedError
from pm_pipeline.sources.identity import Moved, moved, without
from pm_pipeline.sources.listings import KEYS, CatalogRows
from pm_pipeline.universe import MarketFilter, Universe
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.records import listed_fees_to_table
from pm_pipeline.warehouse.schema import table


@dataclass(frozen=True, slots=True)
class Reading:
    """What the venues of a universe listed: rows by table, the fees beside them, and the source's time.

    Markets with ``contradictions`` to what was read before are not among the rows: the former reading stays.
    """

    now: Nanos
    tables: Mapping[str, pa.Table]
    fees: Sequence[ListedFee] = ()
    hindsight: tuple[str, ...] = ()
    tallies: Sequence[Tally] = ()
    contradictions: Sequence[Moved] = ()


WHOLE: Final = dg.AssetCheckSpec(
    "listing_is_whole",
    asset="catalog",
    description="A listing gave at least as many events as its venue counts, where it counts them.",
)

LASTING: Final = dg.AssetCheckSpec(
    "outcomes_keep_their_place",
    asset="catalog",
    description="No outcome is listed with another token than before, or under the name of another outcome. "
    "A market of which one is stays as it was read before.",
)


@dg.asset(
    group_name="catalog",
    kinds={"polymarket", "kalshi", "parquet"},
    partitions_def=DAYS,
    freshness_policy=READ_DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[WHOLE, LASTING],
    pool="catalog",
)
def catalog(context: dg.AssetExecutionContext, workspace: Workspace, config: Markets) -> dg.MaterializeResult:
    """The universe as its venues list it today: markets with their terms, events, and what settles together.

    A venue only tells how things are now, so only today's partition can be read; past partitions are what
    earlier days saw, and are what makes the catalog point-in-time.
    """
    reading = complete(read_catalog(workspace, config.chosen(workspace.settings)))
    for tally in short(reading.tallies):
        context.log.warning(in_words(tally))
    for outcome in reading.contradictions:
        context.log.error(f"{outcome.market_key} is left as it was read before: {outcome}")
    return write_catalog(workspace, context.partition_keys, reading)


@dg.asset(
    group_name="catalog",
    kinds={"parquet"},
    metadata={TABLE: "catalog.rules"},
    io_manager_key="lake",
    deps=[catalog],
)
def rules(workspace: Workspace) -> pa.Table:
    """Fees, ticks, delays and settlement sources by venue and date, each with the source that states it.

    What the venues list themselves (`catalog.listed_fees`) goes before the packaged tables.
    """
    return pa.Table.from_pylist(workspace.rules.to_rows(), schema=table("catalog.rules").arrow)


def write_catalog(workspace: Workspace, days: Iterable[str], reading: Reading) -> dg.MaterializeResult:
    """Write today's catalog and the fees listed with it; refuse other days, and an empty answer."""
    today = day_of(reading.now)
    if others := [day for day in days if day != today]:
        raise UsageError(
            f"the catalog can only be read as it is now, and the source's day is {today}; "
            f"materialise that partition instead of {others[0]}"
        )
    markets = reading.tables["catalog.markets"]
    if not len(markets) and not reading.contradictions:
        raise UsageError(
            "the universe matches no market of the source; loosen its filters, or look at what there is: "
            "`bt markets` lists what was read"
        )
    lake = workspace.lake
    if reading.fees:
        listed = listed_fees_to_table(reading.fees, ingested_at=reading.now)
        lake.write(LISTED_FEES, today, _with_others(lake, LISTED_FEES, today, listed, ("scope",)))
    for name in reversed(KEYS):  # the markets last: what names them is there before them
        lake.write(name, today, _with_others(lake, name, today, reading.tables[name], KEYS[name]))
    venues = markets.column("venue").to_pylist()
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(markets),
            "events": len(reading.tables["catalog.events"]),
            "groups": len(reading.tables["catalog.market_groups"]),
            "world": workspace.settings.label,
            "venues": {venue: venues.count(venue) for venue in Venue},
            "chosen_with_later_knowledge": list(reading.hindsight),
        },
        check_results=[wholeness(reading.tallies), lastingness(reading.contradictions)],
    )


def short(tallies: Iterable[Tally]) -> list[Tally]:
    """The listings that gave less than their venue counts."""
    return [tally for tally in tallies if tally.listed < tally.stated]


def in_words(tally: Tally) -> str:
    """What is missing, and what to do."""
    return (
        f"{tally.stated - tally.listed} of {tally.stated} {tally.what} were counted but not listed; read the "
        "catalog again, and look out for markets that you expect"
    )


def wholeness(tallies: Sequence[Tally]) -> dg.AssetCheckResult:
    """A warning where a listing is short: what a venue counts may not be just what it lists."""
    return dg.AssetCheckResult(
        check_name=WHOLE.name,
        passed=not short(tallies),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "counted": len(tallies),
            "missing": dg.MetadataValue.md("\n".join(f"- {in_words(t)}" for t in short(tallies)) or "none"),
        },
    )


def lastingness(contradictions: Sequence[Moved]) -> dg.AssetCheckResult:
    """An error where a listing would turn a market around."""
    return dg.AssetCheckResult(
        check_name=LASTING.name,
        passed=not contradictions,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "violations": len(contradictions),
            "first": first_of([(outcome.market_key, str(outcome)) for outcome in contradictions]),
        },
    )


def _with_others(lake: Lake, name: str, day: str, new: pa.Table, of: Sequence[str]) -> pa.Table:
    """The new rows, and those of another universe of the same day; ``of`` says what a row is about."""
    if not lake.exists(name, day):
        return new
    former = lake.read(name, day)
    known = set(_names(new, of))
    others = former.filter(pa.array([row not in known for row in _names(former, of)], pa.bool_()))
    return pa.concat_tables([new, others])


def _names(rows: pa.Table, of: Sequence[str]) -> Iterable[tuple[object, ...]]:
    return zip(*(rows[column].to_pylist() for column in of), strict=True)


async def read_catalog(workspace: Workspace, universe: Universe) -> Reading:
    """Ask the venues of the universe for their markets, with events, groups and fees, each once."""
    rows = CatalogRows()
    fees: dict[tuple[str, Nanos], ListedFee] = {}
    tallies: list[Tally] = []
    now = 0
    async with AsyncExitStack() as stack:
        for wanted in universe.markets:
            adapter = await stack.enter_async_context(workspace.adapter(wanted.venue))
            now = await adapter.now()
            try:
                async for listing in _crawl(adapter, wanted.selection()):
                    rows.add(listing, now)
                    tallies += [listing.tally] if listing.tally else []
            except BadRequest as error:
                raise _unknown(workspace, wanted, error) from error
            async for listing in _hidden(workspace, wanted, adapter, rows):
                rows.add(listing, now)
            listed_fees = await adapter.get_listed_fees(rows.markets(wanted.venue))
            fees.update(((fee.scope, fee.valid_from), fee) for fee in listed_fees)
    in_order = [fees[key] for key in sorted(fees)]
    tables = rows.tables()
    contradictions = moved(tables["catalog.instruments"], workspace.catalog.outcomes())
    kept = without(tables, {outcome.market_key for outcome in contradictions})
    return Reading(now, kept, in_order, universe.later_knowledge(), tallies, contradictions)


async def _hidden(
    workspace: Workspace, wanted: MarketFilter, adapter: PlatformAdapter, rows: CatalogRows
) -> AsyncIterator[Listing]:
    """Markets of the filter that trade as far as we know, and that were not listed now; each is asked for.

    A limit hides them, or a date that was moved. Their close must be learned all the same: without it they
    would trade for ever. What the venue does not know any more is left as it is.
    """
    if wanted.ids or not wanted.selection().narrows_events:
        return
    listed = set(rows.tables()["catalog.markets"]["market_key"].to_pylist())
    for market in wanted.choose(workspace.catalog.markets().values()):
        if market.traded_until is None and str(market.key) not in listed:
            named = Selection(venue=wanted.venue, ids=(market.key.native_id,))
            try:
                async for listing in _crawl(adapter, named):
                    yield listing
            except UnsupportedError:
                continue
            except BadRequest as error:
                if error.status != 404:
                    raise


def _unknown(workspace: Workspace, wanted: MarketFilter, error: BadRequest) -> PipelineError:
    """The venue knows no such market or series: the user's mistake, with the nearest names that we know."""
    if error.status != 404:
        return error
    listed = [m for m in workspace.catalog.markets().values() if m.key.venue is wanted.venue]
    known = {
        name
        for market in listed
        for name in (str(market.key), market.key.native_id, market.slug, market.event_slug, market.series)
        if name
    }
    strange = [name for name in (*wanted.ids, *wanted.series) if name not in known]
    if not strange or "did you mean" in str(error):
        return UsageError(str(error))
    if strange[0] in wanted.series:
        known = {market.series for market in listed if market.series}
    return UsageError(f"{error}{did_you_mean(strange[0], known)}")


def _crawl(adapter: PlatformAdapter, selection: Selection) -> AsyncIterator[Listing]:
    return adapter.get_listings(selection)
