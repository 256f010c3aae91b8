"""``bt record`` and ``bt import``: order books that no venue keeps, recorded or brought along."""

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from pm_pipeline.config import Settings
from pm_pipeline.errors import PipelineError, UsageError
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.connect import SourceMode, open_market_channel
from pm_pipeline.sources.polymarket.books.ingest import SHOWN, require_all
from pm_pipeline.sources.polymarket.books.recorder import (
    MOST_TOKENS,
    Look,
    Recorder,
    Status,
    Terms,
    the_only_recorder,
)
from pm_pipeline.sources.polymarket.books.segments import Rotation
from pm_pipeline.universe import choose, universe_of
from pm_pipeline.warehouse.catalog import Catalog
from pm_pipeline.warehouse.lake import Lake

_READ: Final = ("catalog.markets", "catalog.instruments", "catalog.events")
"""What the choice of markets rests on, with the file of the universe."""


@click.command()
@click.argument("venue", type=click.Choice([Venue.POLYMARKET.value]))
@click.option("-m", "--market", "markets", multiple=True, help="any id; repeatable [the universe]")
@click.option(
    "--tokens-per-connection",
    type=click.IntRange(1, MOST_TOKENS),
    default=Terms().tokens_per_connection,
    show_default=True,
    help="markets on one WebSocket",
)
@click.option(
    "--follow-s",
    type=click.FloatRange(0),
    default=Terms().follow_s,
    show_default=True,
    help="between looks at the catalog for new markets of the universe; 0: none",
)
@click.option("--sync-s", type=click.FloatRange(0.05), default=1.0, show_default=True, help="between fsyncs")
@click.option("--rotate-mb", type=click.IntRange(1), default=256, show_default=True, help="size of a segment")
@click.option("--rotate-s", type=click.FloatRange(1), default=3600.0, show_default=True, help="its age")
@click.option(
    "--status-s", type=click.FloatRange(0.05), default=10.0, show_default=True, help="between lines"
)
@click.option("--json", "as_json", is_flag=True, help="status lines as JSON")
def record(
    venue: str,
    markets: tuple[str, ...],
    tokens_per_connection: int,
    follow_s: float,
    sync_s: float,
    rotate_mb: int,
    rotate_s: float,
    status_s: float,
    as_json: bool,
) -> None:
    """Record the order books of VENUE until interrupted (Ctrl-C or SIGTERM).

    A frame counts as acknowledged in the status line once it is on the disk: then neither a kill nor a power
    cut takes it away. The asset `recorded_books` turns the frames into books. Markets that join the universe
    later are recorded once the catalog has them; those named by -m stay as they are.
    """
    settings = Settings.from_environment()
    tokens = _tokens_of(recorded_markets(settings, markets))
    look = catalog_look(settings) if follow_s and not markets else None
    terms = Terms(
        tokens_per_connection=tokens_per_connection,
        follow_s=follow_s,
        rotation=Rotation(bytes=rotate_mb << 20, seconds=rotate_s, sync_seconds=sync_s),
    )

    def show(status: Status) -> None:
        click.echo(json.dumps(asdict(status)) if as_json else f"{settings.label}: {status}")

    with the_only_recorder(settings.frames_dir):
        asyncio.run(_record(settings, tokens, look, terms, status_s, show))


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-m", "--market", "markets", multiple=True, help="only these markets; repeatable [the catalog]")
def import_books(files: tuple[Path, ...], markets: tuple[str, ...]) -> None:
    """Import recorded order books: hourly PMXT Parquet files, or frames as lines of JSON.

    Give consecutive hours at once: a book goes on from one to the next. Only markets of the catalog are read.
    """
    from pm_pipeline.sources.polymarket.books.archives import import_files

    settings = Settings.from_environment()
    lake = Lake(settings.lake_dir)
    catalog = Catalog(lake)
    wanted = [catalog.find(name) for name in markets] or catalog.markets().values()
    imported = import_files(lake, files, wanted, now=time.time_ns())
    click.echo(f"{settings.label}: {imported.messages} messages of {len(imported.taken)} markets imported")
    for taken in imported.taken[:SHOWN]:
        coverage = taken.coverage
        held = f"{coverage.rows} rows, {coverage.gaps} gaps"
        click.echo(f"  {taken.market_key}: {held}  {coverage.reason}".rstrip())
    require_all(imported.taken)
    if not imported.taken:
        raise UsageError("the files hold no market of the catalog; `bt fetch -m` reads it, then import again")


def recorded_markets(settings: Settings, names: Iterable[str]) -> list[Market]:
    """The markets that are meant: those named, else what trades of the universe.

    Raises
    ------
    UsageError
        where none of them has a token at Polymarket.
    """
    catalog = Catalog(Lake(settings.lake_dir))
    found: Sequence[Market] = [catalog.find(name) for name in names]
    if not found:
        chosen = choose(universe_of(settings), catalog.markets().values())
        found = [market for market in chosen if market.traded_until is None]
    found = [m for m in found if m.key.venue is Venue.POLYMARKET and m.instruments[0].token_id]
    if not found:
        raise UsageError("no market to record: the catalog has none that trades; `bt fetch` reads it")
    return list(dict.fromkeys(found))


def catalog_look(settings: Settings) -> Look:
    """A look for the tokens of what trades of the universe; nothing is read where no file changed since."""
    seen: dict[Path, tuple[int, int]] = {}

    def look() -> list[str] | None:
        nonlocal seen
        lake = Lake(settings.lake_dir)
        files = [path for table in _READ for path in lake.paths(table)]
        found = {path: path.stat() for path in (*files, *filter(None, [settings.universe]))}
        now = {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}
        if now == seen:
            return None
        tokens = _tokens_of(recorded_markets(settings, ()))
        seen = now
        return tokens

    return look


def _tokens_of(markets: Iterable[Market]) -> list[str]:
    """The tokens whose books are watched: of outcome 0, for the other is the same book, mirrored."""
    return [str(market.instruments[0].token_id) for market in markets]


async def _record(
    settings: Settings,
    tokens: Sequence[str],
    look: Look | None,
    terms: Terms,
    status_s: float,
    show: Callable[[Status], None],
) -> None:
    from pm_pipeline.sources.sandbox.app import build_app
    from pm_pipeline.sources.sandbox.serve import load_world

    in_process = settings.source is SourceMode.SANDBOX and settings.sandbox_url is None
    async with open_market_channel(
        settings.source,
        sandbox_app=build_app(load_world(settings.sandbox_world)) if in_process else None,
        sandbox_url=settings.sandbox_url,
        contact=settings.contact,
    ) as (http, url):
        recorder = Recorder(http, url, tokens, settings.frames_dir, terms, look=look)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)

        async def tell() -> None:
            while True:
                await asyncio.sleep(status_s)
                show(recorder.status())

        telling = asyncio.create_task(tell())
        try:
            show(await recorder.run(stop))
        except PipelineError:
            show(recorder.status())
            raise
        finally:
            telling.cancel()
