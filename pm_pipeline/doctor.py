"""``bt doctor``: which sources are alive, how new what they tell is, and how the lake stands."""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import click
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from pm_pipeline.config import Settings
from pm_pipeline.markets.clock import DAY, HOUR, MINUTE, Nanos, format_time, to_nanos
from pm_pipeline.markets.keys import Venue
from pm_pipeline.sources.connect import SourceMode, open_adapter, open_sources
from pm_pipeline.sources.health import RETIRED, Health, examine, needs_help
from pm_pipeline.warehouse.duck import connect
from pm_pipeline.warehouse.lake import Lake

_COVERAGE: Final = "ops.coverage"
_NOTE: Final = (0, 0, 0, 6)
"""Notes are set in."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the lake holds of one table from one source: partitions by how their last reading ended."""

    table: str
    source: str
    status: str
    partitions: int
    gaps: int
    newest: Nanos | None
    read_at: Nanos
    reason: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="print as JSON")
def doctor(as_json: bool) -> None:
    """Say which sources are alive and what their newest row is, and how the last readings of them ended.

    Ends with status 1 when a source that should be alive is dead or stale.
    """
    settings = Settings.from_environment()
    now, found = asyncio.run(_examine(settings))
    stored = readings(Lake(settings.lake_dir))
    if as_json:
        click.echo(
            json.dumps(
                {
                    "world": settings.label,
                    "now": format_time(now),
                    "sources": [_plain(asdict(each)) for each in found],
                    "retired": [asdict(each) for each in RETIRED],
                    "lake": [_plain(asdict(each)) for each in stored],
                }
            )
        )
    else:
        _show(settings.label, now, found, stored)
    if needs_help(found):
        sys.exit(1)


def readings(lake: Lake) -> list[Stored]:
    """How the last readings of each table ended, from ``ops.coverage``; one row per source and status."""
    if not lake.partitions(_COVERAGE):
        return []
    with connect(lake, [_COVERAGE]) as connection:
        rows = connection.execute(
            f"""
            SELECT table_name, source, status, count(*), sum(gaps), max(got_to), max(ingested_at),
                   coalesce(first(reason ORDER BY ingested_at DESC) FILTER (reason <> ''), '')
            FROM {_COVERAGE}
            GROUP BY ALL
            ORDER BY table_name, source, status
            """
        ).fetchall()
    return [
        Stored(
            table, source, status, count, int(gaps), newest and to_nanos(newest), to_nanos(read_at), reason
        )
        for table, source, status, count, gaps, newest, read_at, reason in rows
    ]


async def _examine(settings: Settings) -> tuple[Nanos, list[Health]]:
    from pm_pipeline.sources.sandbox.app import build_app
    from pm_pipeline.sources.sandbox.serve import load_world

    in_process = settings.source is SourceMode.SANDBOX and settings.sandbox_url is None
    app = build_app(load_world(settings.sandbox_world)) if in_process else None
    world: dict[str, Any] = {
        "sandbox_app": app,
        "sandbox_url": settings.sandbox_url,
        "contact": settings.contact,
    }
    endpoint = settings.polygon_rpc
    async with open_sources(
        settings.source, endpoint=endpoint.get_secret_value() if endpoint else None, **world
    ) as sources:
        now = time.time_ns()
        if settings.source is SourceMode.SANDBOX:  # its clock stands still
            async with open_adapter(Venue.POLYMARKET, settings.source, **world) as adapter:
                now = await adapter.now()
        return now, await examine(sources, now)


def _show(label: str, now: Nanos, found: Sequence[Health], stored: Sequence[Stored]) -> None:
    console = Console(highlight=False)
    console.print(f"[bold]{label}: sources at {format_time(now)}[/]")
    for each in found:
        console.print(f"  {each.source:<28}{each.verdict:<8}{_time(each.newest):<18}{age(now, each.newest)}")
        console.print(Padding(Text(each.note), _NOTE))
    console.print("[bold]retired[/]")
    for retired in RETIRED:
        console.print(f"  {retired.source}", soft_wrap=True)
        console.print(Padding(f"since {retired.since}; instead: {retired.instead}", _NOTE))
    console.print("[bold]the lake, by how the last readings ended[/]")
    for row in stored:
        console.print(f"  {_name(row):<38}{row.partitions:>7} {row.status:<13}{_time(row.newest)}")
        if row.reason:
            console.print(Padding(Text(row.reason), _NOTE))
    if not stored:
        console.print("  it holds nothing yet; `bt fetch` reads markets")


def _name(row: Stored) -> str:
    return row.table if row.source == row.table else f"{row.table} ({row.source})"


def _time(moment: Nanos | None) -> str:
    return "" if moment is None else format_time(moment)[:16].replace("T", " ")


def age(now: Nanos, then: Nanos | None) -> str:
    """How long ago, to the nearest whole unit that is not nought: 40 s, 12 min, 5 h, 3 d."""
    if then is None:
        return ""
    passed = max(now - then, 0)
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if passed >= 2 * unit:
            return f"{passed // unit} {name}"
    return f"{passed // 1_000_000_000} s"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Times as text."""
    times = {"newest", "read_at"} & row.keys()
    return row | {name: None if row[name] is None else format_time(row[name]) for name in times}
