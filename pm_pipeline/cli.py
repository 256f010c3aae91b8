"""``bt``: a thin client of the Dagster jobs. Tables for people, ``--json`` for machines.

Exit status: 0 done, 1 something failed, 2 the input cannot be carried out.
"""

import io
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
import stamina.instrumentation
import yaml
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from pm_pipeline.config import Settings, read_yaml
from pm_pipeline.doctor import doctor
from pm_pipeline.errors import PipelineError, UsageError
from pm_pipeline.markets.clock import Nanos, format_time
from pm_pipeline.markets.keys import MarketKey
from pm_pipeline.recording import import_books, record
from pm_pipeline.wallets import wallet

PLATFORMS: Final = {"poly": "polymarket", "polymarket": "polymarket", "kalshi": "kalshi"}
EXTRAS: Final = ("onchain", "holders", "bars", "reconcile")
DAY: Final = click.DateTime(["%Y-%m-%d"])
HOME_CONFIG: Final = "telemetry:\n  enabled: false\n"
_ANY_WIDTH: Final = 10_000


class Teaching(click.Group):
    """A group that prints errors of ours as one sentence, with their exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a :class:`PipelineError` becomes its message."""
        try:
            return super().invoke(ctx)
        except PipelineError as error:
            click.echo(f"bt: {error}", err=True)
            ctx.exit(error.exit_status)


@click.group(cls=Teaching, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pm-pipeline", prog_name="bt")
def main() -> None:
    """Backtest prediction markets: fetch data, run strategies, read reports.

    Where data comes from is set by PM_SOURCE: sandbox (default), live or archive.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no `…` gets a `?`
            stream.reconfigure(errors="replace")
    warnings.filterwarnings("ignore", module="dagster.*")
    stamina.instrumentation.set_on_retry_hooks([])  # what failed for good says how often it was tried


main.add_command(doctor)
main.add_command(record)
main.add_command(import_books)
main.add_command(wallet)


@main.command()
@click.option("-c", "--config", type=click.Path(path_type=Path), help="YAML file; see examples/backtest.yaml")
@click.option("-s", "--strategy", "strategies", multiple=True, help="name of a strategy; repeatable")
@click.option("-p", "--param", "params", multiple=True, metavar="STRATEGY.NAME=VALUE", help="a parameter")
@click.option("-m", "--market", "markets", multiple=True, help="key, slug or native id; repeatable")
@click.option("--platform", type=click.Choice(sorted(PLATFORMS)), help="only markets of this venue")
@click.option("--series", multiple=True, help="only markets of this series; repeatable")
@click.option("--from", "start", type=DAY, metavar="DAY", help="scheduled to close on this day or later")
@click.option("--to", "end", type=DAY, metavar="DAY", help="scheduled to close on this day or earlier")
@click.option("--bankroll", type=int, help="dollars at the start")
@click.option("--stake", type=int, help="dollars per entry")
@click.option("--fees", help="venue, flat_2pct, flat_1pct or zero")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def backtest(
    config: Path | None,
    strategies: tuple[str, ...],
    params: tuple[str, ...],
    markets: tuple[str, ...],
    platform: str | None,
    series: tuple[str, ...],
    start: datetime | None,
    end: datetime | None,
    bankroll: int | None,
    stake: int | None,
    fees: str | None,
    as_json: bool,
) -> None:
    """Run strategies on the markets of the universe and report.

    Data that is missing is fetched first; what was computed from the same data and code is not computed
    again.
    """
    asked = _read_config(config)
    for name in strategies:
        asked.setdefault("strategies", {}).setdefault(name, {})
    for text in params:
        name, key, value = _parse_param(text)
        asked.setdefault("strategies", {}).setdefault(name, {})[key] = value
    if filters := _filters(markets, platform, series, start, end):
        asked["universe"] = filters
    for section, key, value in (
        ("bankroll", "bankroll_usd", bankroll),
        ("bankroll", "stake_usd", stake),
        ("execution", "fees", fees),
    ):
        if value is not None:
            asked.setdefault(section, {})[key] = value
    _show(_run("backtest", asked), as_json)


@main.command()
@click.option(
    "-m",
    "--market-id",
    "markets",
    multiple=True,
    help="key, native id, slug, page, condition id or token id; repeatable",
)
@click.option("--platform", type=click.Choice(sorted(PLATFORMS)), help="poly or kalshi")
@click.option("--series", multiple=True, help="series ticker or slug; repeatable")
@click.option("--from", "start", type=DAY, metavar="DAY", help="scheduled to close on this day or later")
@click.option("--to", "end", type=DAY, metavar="DAY", help="scheduled to close on this day or earlier")
@click.option("--with", "also", multiple=True, type=click.Choice(EXTRAS), help="more than the market data")
def fetch(
    markets: tuple[str, ...],
    platform: str | None,
    series: tuple[str, ...],
    start: datetime | None,
    end: datetime | None,
    also: tuple[str, ...],
) -> None:
    """Read markets from their venues into the lake, and nothing else.

    --with onchain: fills on the chain; holders: the largest of each outcome; bars: one-minute bars of the
    trades; reconcile: what sources say of the same thing, compared.
    """
    filters = _filters(markets, platform, series, start, end)
    _run("fetch", {"universe": filters} if filters else {}, also)
    settings = Settings.from_environment()
    click.echo(f"{settings.label}: the lake is {settings.lake_dir}")


@main.command("markets")
@click.argument("query", required=False)
@click.option("--platform", type=click.Choice(sorted(PLATFORMS)), help="only this venue")
@click.option("--limit", type=click.IntRange(min=1), default=40, show_default=True, help="rows shown")
@click.option("--json", "as_json", is_flag=True, help="print as JSON")
def list_markets(query: str | None, platform: str | None, limit: int, as_json: bool) -> None:
    """List the markets of the catalog, or those whose key, slug or question holds QUERY."""
    from pm_pipeline.warehouse.catalog import Catalog
    from pm_pipeline.warehouse.lake import Lake

    settings = Settings.from_environment()
    found = [
        market
        for market in Catalog(Lake(settings.lake_dir)).markets().values()
        if (platform is None or market.key.venue == PLATFORMS[platform])
        and (not query or query.lower() in f"{market.key} {market.slug} {market.question}".lower())
    ]
    if not found:
        raise UsageError("no market of the catalog matches; `bt fetch` reads the catalog")
    rows = [
        {
            "market": str(market.key),
            "question": market.question,
            "scheduled_close": _close(market.scheduled_close, as_json),
            "series": market.series,
        }
        for market in found[:limit]
    ]
    _print(rows, as_json, title=f"{settings.label}: {len(found)} markets")


@main.command("strategies")
@click.option("--json", "as_json", is_flag=True, help="print as JSON")
def list_strategies(as_json: bool) -> None:
    """List the registered strategies and their parameters."""
    from pm_pipeline.strategies import REGISTRY, load_user_strategies

    load_user_strategies(Settings.from_environment().strategy_paths)
    rows = [
        {
            "strategy": name,
            "parameter": parameter,
            "default": str(field.default),
            "meaning": field.description or "",
        }
        for name in REGISTRY.names()
        for parameter, field in REGISTRY.get(name).Params.model_fields.items()
    ]
    _print(rows, as_json, title="strategies")


@main.command()
@click.argument("run_id", required=False)
@click.option("--json", "as_json", is_flag=True, help="print as JSON")
def report(run_id: str | None, as_json: bool) -> None:
    """Show a run again (the latest, or RUN_ID), and where its report lies."""
    _show(run_id, as_json)


@main.command()
@click.argument("run_ids", nargs=-1)
@click.option("--metric", "metrics", multiple=True, help="figure to compare; repeatable")
@click.option("--json", "as_json", is_flag=True, help="print as JSON")
def compare(run_ids: tuple[str, ...], metrics: tuple[str, ...], as_json: bool) -> None:
    """Compare runs side by side: the latest two, or those named. Figures are of the base scenario."""
    from pm_pipeline.reports.results import compare_runs
    from pm_pipeline.warehouse.lake import Lake

    rows = compare_runs(Lake(Settings.from_environment().lake_dir), run_ids, metrics)
    _print(rows, as_json, title="runs compared, base scenario")


@main.command()
def migrate() -> None:
    """Bring the lake to the tables of this version; every row is kept. Stop other runs before."""
    from pm_pipeline.warehouse.lake import Lake
    from pm_pipeline.warehouse.migrations import migrate

    lake = Lake(Settings.from_environment().lake_dir)
    before, rewritten = lake.version(), migrate(lake)
    click.echo(f"{lake.root}: version {before} -> {lake.version()}, {rewritten} partitions rewritten")


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8899, show_default=True, help="loopback port")
@click.option("--world", help="module:function that builds the world")
def sandbox(port: int, world: str | None) -> None:
    """Serve the embedded world on a loopback port, in the venues' wire formats.

    Point another shell at it with PM_SANDBOX_URL, or try it with curl: the venues lie under /gamma, /clob,
    /data and /kalshi.
    """
    from pm_pipeline.sources.sandbox.app import build_app
    from pm_pipeline.sources.sandbox.serve import load_world, serve

    loaded = load_world(world or Settings.from_environment().sandbox_world)
    click.echo(f"{loaded.label}: {len(loaded.markets)} markets on http://127.0.0.1:{port} (Ctrl-C ends it)")
    serve(build_app(loaded), host="127.0.0.1", port=port)


@main.command()
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="loopback port")
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
def ui(port: int, host: str) -> None:
    """Start Dagster's UI and daemon on this world."""
    home = dagster_home()
    click.echo(f"Dagster on http://{host}:{port}, home {home} (Ctrl-C ends it)")
    command = [sys.executable, "-m", "dagster", "dev", "-m", "pm_pipeline.definitions"]
    os.execv(sys.executable, [*command, "--host", host, "--port", str(port)])


@main.command("home")
def show_home() -> None:
    """Print the folder of Dagster's records, made ready: export DAGSTER_HOME=$(bt home).

    Dagster's own commands (job execute, asset materialize, schedule list) then work on this world. Where
    DAGSTER_HOME is set, it is that: unset it before you turn to another world.
    """
    click.echo(dagster_home())


def dagster_home() -> Path:
    """DAGSTER_HOME, made ready: that of the environment, else the world's own folder."""
    from pm_pipeline.defs.storage import home_of_world

    home = home_of_world()
    try:
        home.mkdir(parents=True, exist_ok=True)
        target, beside = home / "dagster.yaml", Path("dagster.yaml")
        if not target.exists():
            if beside.exists():
                shutil.copyfile(beside, target)
            else:
                target.write_text(HOME_CONFIG)
    except OSError as error:
        raise UsageError(
            f"cannot use {home} as DAGSTER_HOME: {error}; set DAGSTER_HOME or PM_DATA_DIR"
        ) from error
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def _run(job: str, asked: dict[str, Any], also: tuple[str, ...] = ()) -> str:
    """Execute a job of the code location in this process, with progress on the terminal; the run's id."""
    from pm_pipeline.definitions import run_job

    with dagster_records():
        return run_job(job, asked, also)


@contextmanager
def dagster_records() -> Iterator[None]:
    """A block in which jobs run in this process: DAGSTER_HOME is ready, and what breaks it is explained."""
    from dagster import DagsterExecutionInterruptedError
    from sqlalchemy.exc import SQLAlchemyError

    home = dagster_home()
    logging.getLogger("dagster").setLevel(logging.ERROR)
    try:
        yield
    except DagsterExecutionInterruptedError:
        raise click.Abort from None
    except (SQLAlchemyError, OSError) as error:
        raise PipelineError(
            f"Dagster cannot keep its records in {home}: {getattr(error, 'orig', error)}. If the disk is "
            "full, free some space; else set DAGSTER_HOME to another folder. What is in the lake is whole"
        ) from error


def _read_config(path: Path | None) -> dict[str, Any]:
    """The configuration in a file, complete. The same file serves ``dagster job execute -c``."""
    if path is None:
        return {}
    from pm_pipeline.defs.config import BacktestConfig

    content = read_yaml(path, "examples/backtest.yaml") or {}
    if isinstance(content, dict) and "ops" in content:
        try:
            content = content["ops"]["plan"]["config"] or {}
        except (KeyError, TypeError):
            raise UsageError(f"{path}: what lies under ops must begin with plan: config:") from None
    return BacktestConfig.parse(content, str(path))


def _parse_param(text: str) -> tuple[str, str, Any]:
    name, dot, rest = text.partition(".")
    key, equals, value = rest.partition("=")
    if not (dot and equals and name and key):
        raise UsageError(f"--param {text!r} is not STRATEGY.NAME=VALUE, for example favourite.lead_hours=6")
    return name, key, yaml.safe_load(value)


def _filters(
    markets: Iterable[str],
    platform: str | None,
    series: Iterable[str],
    start: datetime | None,
    end: datetime | None,
) -> list[dict[str, Any]]:
    """Market filters as in a universe file, one per venue that is meant; none, when nothing was asked."""
    days = {name: day.date().isoformat() for name, day in (("closes_from", start), ("closes_to", end)) if day}
    named = [
        (key, name, PLATFORMS[platform] if platform else _venue_of(name))
        for key, names in (("ids", markets), ("series", series))
        for name in names
    ]
    venues = sorted({venue for *_, venue in named})
    if not venues and (platform or days):
        venues = [PLATFORMS[platform]] if platform else ["kalshi", "polymarket"]
    filters: dict[str, dict[str, Any]] = {venue: {"venue": venue, **days} for venue in venues}
    for key, name, venue in named:
        filters[venue].setdefault(key, []).append(name)
    return list(filters.values())


def _venue_of(name: str) -> str:
    """The venue of a market or series: that of a key or page; else Kalshi's tickers are those in capitals."""
    if "/" in name:
        return "kalshi" if "kalshi.com/" in name.lower() else "polymarket"
    if ":" in name:
        return str(MarketKey.parse(name).venue)
    return "kalshi" if name.isupper() else "polymarket"


def _show(run_id: str | None, as_json: bool) -> None:
    from pm_pipeline.reports.results import find_run, load_run, report_folder, result_rows
    from pm_pipeline.reports.table import terminal_table
    from pm_pipeline.warehouse.lake import Lake

    settings = Settings.from_environment()
    lake = Lake(settings.lake_dir)
    run = load_run(lake, find_run(lake, run_id))
    folder = report_folder(settings.reports_dir, run.run_id)
    files = {path.name: str(path) for path in sorted(folder.glob("*.*"))}
    files["warehouse"] = str(settings.warehouse_path)
    if as_json:
        click.echo(
            json.dumps(
                {"run_id": run.run_id, "world": run.world, "strategies": result_rows(run), "files": files},
                allow_nan=False,
            )
        )
        return
    console = print_table(terminal_table(run))
    for name, path in files.items():
        console.print(f"  {name:<14} {path}", soft_wrap=True, highlight=False)


def _print(rows: list[dict[str, Any]], as_json: bool, title: str) -> None:
    if as_json:
        click.echo(json.dumps(rows, default=str, allow_nan=False))
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in rows[0] if rows else ():
        table.add_column(name, no_wrap=not table.columns)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    print_table(table)


def print_table(table: Table) -> Console:
    """Print a table of which nothing is cut off; the console, for more.

    It is as wide as the terminal, or as its longest words need; in a file or pipe a row takes one line.
    """
    console = Console()
    for column in table.columns:
        column.overflow = "fold"
    need = Measurement.get(console, console.options.update(width=_ANY_WIDTH), table)
    unbound = not console.is_terminal and "COLUMNS" not in os.environ
    console.width = max(console.width, need.maximum if unbound else need.minimum)
    console.print(table)
    return console


def _close(moment: Nanos | None, as_json: bool) -> str | None:
    """A scheduled close: to the second in JSON, to the minute in a table."""
    if moment is None:
        return None
    return format_time(moment) if as_json else format_time(moment)[:16].replace("T", " ")
