"""The catalog of markets, read once a day, and the dated rules of the venues."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.defs.config import Markets
from pm_pipeline.defs.io_manager import TABLE
from pm_pipeline.defs.partitions import DAYS, READ_DAILY
from pm_pipeline.defs.resources import LISTED_FEES, Workspace
from pm_pipeline.errors import PipelineError, UsageError, did_you_mean
from pm_pipeline.markets.clock import Nanos, day_of
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.listed_fees import ListedFee
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.adapter import PlatformAdapter, Selection
from pm_pipeline.sources.errors import BadRequest
from pm_pipeline.universe import MarketFilter, Universe
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.records import listed_fees_to_table, markets_to_tables
from pm_pipeline.warehouse.schema import table


@dg.asset(
    group_name="catalog",
    kinds={"polymarket", "kalshi", "parquet"},
    partitions_def=DAYS,
    freshness_policy=READ_DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool="catalog",
)
def catalog(context: dg.AssetExecutionContext, workspace: Workspace, config: Markets) -> dg.MaterializeResult:
    """The markets of the universe as their venues list them today: ids, outcomes, price grid, dates, rules.

    A venue only tells how things are now, so only today's partition can be read; past partitions are what
    earlier days saw, and are what makes the catalog point-in-time.
    """
    now, markets, fees = asyncio.run(read_catalog(workspace, config.chosen(workspace.settings)))
    return write_catalog(workspace, context.partition_keys, now, markets, fees)


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


def write_catalog(
    workspace: Workspace,
    days: Iterable[str],
    now: Nanos,
    markets: list[Market],
    fees: Sequence[ListedFee] = (),
) -> dg.MaterializeResult:
    """Write today's catalog and the fees listed with it; refuse other days, and an empty answer."""
    today = day_of(now)
    if others := [day for day in days if day != today]:
        raise UsageError(
            f"the catalog can only be read as it is now, and the source's day is {today}; "
            f"materialise that partition instead of {others[0]}"
        )
    if not markets:
        raise UsageError(
            "the universe matches no market of the source; loosen its filters, or look at what there is: "
            "`bt markets` lists what was read"
        )
    rows, instruments = markets_to_tables(markets, known_at=now, ingested_at=now)
    lake = workspace.lake
    rows, instruments = (
        _with_others(lake, name, today, new)
        for name, new in (("catalog.markets", rows), ("catalog.instruments", instruments))
    )
    if fees:
        listed = listed_fees_to_table(fees, ingested_at=now)
        lake.write(LISTED_FEES, today, _with_others(lake, LISTED_FEES, today, listed, of="scope"))
    lake.write("catalog.instruments", today, instruments)
    lake.write("catalog.markets", today, rows)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(markets),
            "world": workspace.settings.label,
            "venues": {venue: sum(m.key.venue == venue for m in markets) for venue in Venue},
        }
    )


def _with_others(lake: Lake, name: str, day: str, new: pa.Table, *, of: str = "market_key") -> pa.Table:
    """The new rows, and those of markets that another universe had read earlier on the same day."""
    if not lake.exists(name, day):
        return new
    former = lake.read(name, day)
    others = former.filter(pc.invert(pc.is_in(former[of], value_set=new[of].combine_chunks())))
    return pa.concat_tables([new, others])


async def read_catalog(
    workspace: Workspace, universe: Universe
) -> tuple[Nanos, list[Market], list[ListedFee]]:
    """Ask the venues of the universe for their markets; the source's time, each market and each fee once."""
    found: dict[str, Market] = {}
    fees: dict[tuple[str, Nanos], ListedFee] = {}
    now = 0
    async with AsyncExitStack() as stack:
        for wanted in universe.markets:
            adapter = await stack.enter_async_context(workspace.adapter(wanted.venue))
            now = await adapter.now()
            try:
                listed = [market async for market in _crawl(adapter, wanted.selection())]
            except BadRequest as error:
                raise _unknown(workspace, wanted, error) from error
            chosen = wanted.choose(listed)
            found.update((str(market.key), market) for market in chosen)
            listed_fees = await adapter.get_listed_fees(chosen)
            fees.update(((fee.scope, fee.valid_from), fee) for fee in listed_fees)
    return now, [found[key] for key in sorted(found)], [fees[key] for key in sorted(fees)]


def _unknown(workspace: Workspace, wanted: MarketFilter, error: BadRequest) -> PipelineError:
    """The venue knows no such market or series: the user's mistake, with the nearest names that we know."""
    if error.status != 404:
        return error
    listed = [m for m in workspace.catalog.markets().values() if m.key.venue is wanted.venue]
    known = {name for m in listed for name in (str(m.key), m.key.native_id, m.slug, m.series) if name}
    strange = [name for name in (*wanted.ids, *wanted.series) if name not in known]
    return UsageError(f"{error}{did_you_mean(strange[0], known) if strange else ''}")


async def _crawl(adapter: PlatformAdapter, selection: Selection) -> AsyncIterator[Market]:
    async for page in adapter.get_markets(selection):
        for market in page:
            yield market
