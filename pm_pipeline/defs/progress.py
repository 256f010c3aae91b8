"""Long work that says how far it is, in Dagster's log and on the terminal of ``bt``."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import click
import dagster as dg

EVERY_S: Final = 5.0
"""Seconds between two lines."""

T = TypeVar("T")


def counter(log: Any, what: str, total: int) -> Callable[[object], None]:
    """A function to be called for each piece done; it logs how many there are, now and then."""
    done, spoke_at = 0, time.monotonic()

    def count(_: object) -> None:
        nonlocal done, spoke_at
        done += 1
        if time.monotonic() - spoke_at >= EVERY_S:
            spoke_at = time.monotonic()
            log.info(f"{what}: {done} of {total}")

    return count


def counted(log: Any, what: str, pieces: Iterable[T], total: int) -> Iterator[T]:
    """The pieces, counted as they are taken."""
    count = counter(log, what, total)
    for piece in pieces:
        yield piece
        count(piece)


class _Terminal(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Print what assets and ops said, without Dagster's own events."""
        meta = getattr(record, "dagster_meta", None) or {}
        if not meta.get("dagster_event"):
            click.echo(f"  {meta.get('orig_message', record.getMessage())}", err=True)


def _make(_: dg.InitLoggerContext) -> logging.Logger:
    log = logging.Logger("pm_pipeline.terminal", logging.INFO)
    log.addHandler(_Terminal())
    return log


terminal: Final = dg.LoggerDefinition(
    _make, description="Prints what assets and ops say, a line each, on the standard error stream."
)
"""The logger of the ``bt`` command."""
