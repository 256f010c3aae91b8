"""``bt wallet``: what one wallet did and holds, read through the job ``ingest_wallets``."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from pm_pipeline.config import Settings
from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.addresses import parse_address
from pm_pipeline.markets.clock import format_time
from pm_pipeline.markets.units import from_micro
from pm_pipeline.warehouse.coverage import Coverage, CoverageStatus, read_coverage
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.readings import ACTIVITY, POSITIONS, Reading, of_reading, readings_of
from pm_pipeline.warehouse.records import nanos_of

SHOWN = 40
"""Positions in the table; ``--json`` has all."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known of a wallet; sizes in contracts, money in dollars, times in UTC.

    ``realised_pnl`` is as the venue counts it, over all positions of the last reading. ``stale`` says what
    could not be read now, with the reason, or what is missing.
    """

    wallet: str
    world: str
    read_at: str | None
    open_positions: int
    closed_positions: int
    realised_pnl: Decimal
    trades: int
    first_at: str | None
    last_at: str | None
    stale: tuple[str, ...]
    positions: tuple[dict[str, Any], ...]


@click.command()
@click.argument("address")
@click.option("--json", "as_json", is_flag=True, help="print as JSON, with all positions")
def wallet(address: str, as_json: bool) -> None:
    """Read what the wallet ADDRESS did and holds on Polymarket, and show it.

    The wallet is followed from now on: `daily_wallets` reads it too. Where something cannot be read, what is
    stored is shown, marked as stale, and the exit status is 1.
    """
    from pm_pipeline.cli import dagster_records
    from pm_pipeline.definitions import run_wallets

    known = parse_address(address)
    settings = Settings.from_environment()
    failure: PipelineError | None = None
    with dagster_records():
        try:
            run_wallets({"wallets": [known]})
        except PipelineError as error:
            failure = error
    lake = Lake(settings.lake_dir)
    if failure and not (lake.exists(ACTIVITY, known) or lake.exists(POSITIONS, known)):
        raise failure
    summary = summarise(lake, known, settings.label)
    if as_json:
        click.echo(json.dumps(asdict(summary), default=str, allow_nan=False))
    else:
        _show(summary)
    if failure:
        raise failure


def summarise(lake: Lake, address: str, world: str) -> Summary:
    """What the lake holds of a wallet."""
    readings = readings_of(lake, POSITIONS, address)
    last = readings[-1] if readings else None
    held = _last_positions(lake, address, last)
    acts = lake.read(ACTIVITY, address, ("ts", "kind")) if lake.exists(ACTIVITY, address) else None
    times = [] if acts is None else nanos_of(acts["ts"]).tolist()
    closed = sum(row["size"] == 0 for row in held)
    return Summary(
        wallet=address,
        world=world,
        read_at=format_time(last.ts) if last else None,
        open_positions=len(held) - closed,
        closed_positions=closed,
        realised_pnl=sum((row["realised_pnl"] or Decimal(0) for row in held), Decimal(0)),
        trades=0 if acts is None else _count(acts, "trade"),
        first_at=format_time(times[0]) if times else None,
        last_at=format_time(times[-1]) if times else None,
        stale=tuple(stale(lake, address)),
        positions=tuple(held),
    )


def stale(lake: Lake, address: str) -> Sequence[str]:
    """What was not read at the last attempt, or came incomplete: table and reason."""
    found = []
    for table in (ACTIVITY, POSITIONS):
        records: list[Coverage] = read_coverage(lake, table, address)
        if not records:
            found.append(f"{table}: was never read")
        for record in records:
            if record.status is CoverageStatus.FAILED:
                found.append(f"{table}: not read at {format_time(record.ingested_at)}: {record.reason}")
            elif record.gaps:
                found.append(f"{table}: {record.reason}")
    return found


def _last_positions(lake: Lake, address: str, last: Reading | None) -> list[dict[str, Any]]:
    """The positions of the last reading: largest first, those without contracts at the end."""
    if last is None:
        return []
    rows = of_reading(lake.read(POSITIONS, address), last.ts).to_pylist()
    rows.sort(key=lambda row: (-row["size"], row["token_id"]))
    micro = ("size", "bought", "avg_price", "realised_pnl")
    return [
        {
            "market": row["market_key"] or row["condition_id"],
            "outcome": row["outcome_index"],
            "token_id": row["token_id"],
            **{name: None if row[name] is None else from_micro(row[name]) for name in micro},
            "status": row["status"],
        }
        for row in rows
    ]


def _count(acts: pa.Table, kind: str) -> int:
    return int(pc.sum(pc.equal(acts["kind"], kind)).as_py() or 0)


def _show(summary: Summary) -> None:
    from pm_pipeline.cli import print_table

    grid = Table(title=f"{summary.world}: {summary.wallet}", title_justify="left", header_style="bold")
    columns = ("market", "outcome", "size", "bought", "avg_price", "realised_pnl", "status")
    for name in columns:
        grid.add_column(name, justify="right" if name in columns[2:6] else "left")
    for row in summary.positions[:SHOWN]:
        grid.add_row(*("" if row[name] is None else _text(row[name]) for name in columns))
    console = print_table(grid)
    if len(summary.positions) > SHOWN:
        console.print(f"  … and {len(summary.positions) - SHOWN} more; --json has all")
    lines = {
        "positions": f"{summary.open_positions} open, {summary.closed_positions} closed, read at "
        f"{summary.read_at or 'no time'}",
        "realised PnL": f"{summary.realised_pnl:,.2f} dollars, as the venue counts",
        "trades": f"{summary.trades:,}",
        "first, last": f"{summary.first_at or '-'}, {summary.last_at or '-'}",
        "stale": "; ".join(summary.stale) or "nothing",
    }
    for name, text in lines.items():
        console.print(f"  {name:<13} {text}", soft_wrap=True, highlight=False)


def _text(value: object) -> str:
    return f"{value:,.6f}".rstrip("0").rstrip(".") if isinstance(value, Decimal) else str(value)
