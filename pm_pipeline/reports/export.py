"""Trades as CSV and JSON for other programs: exact decimals as text, times as ISO 8601 in UTC."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import pyarrow as pa

from pm_pipeline.markets.clock import format_time, to_nanos
from pm_pipeline.markets.units import from_micro
from pm_pipeline.reports.files import replacing
from pm_pipeline.warehouse.columns import Kind
from pm_pipeline.warehouse.schema import table

_COLUMNS: Final = table("backtest.trips").columns
_ROWS: Final = 10_000


def _money(value: int) -> str:
    return format(from_micro(value), "f")


def _time(value: datetime) -> str:
    return format_time(to_nanos(value))


_PLAIN: Final[dict[Kind, Callable[..., object]]] = {Kind.MICRO: _money, Kind.TIME: _time}
"""How a kind of column leaves the program; the others go as they are."""


def rows(tables: Iterable[pa.Table]) -> Iterator[dict[str, object]]:
    """The trips of several tables, one by one, in the columns of ``backtest.trips``; null is None."""
    for trips in tables:
        for batch in trips.select([c.name for c in _COLUMNS]).to_batches(max_chunksize=_ROWS):
            columns = [
                [None if v is None else _PLAIN.get(c.kind, _as_is)(v) for v in batch[c.name].to_pylist()]
                for c in _COLUMNS
            ]
            for values in zip(*columns, strict=True):
                yield dict(zip((c.name for c in _COLUMNS), values, strict=True))


def _as_is(value: object) -> object:
    return value


def write_trades_csv(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write trips as CSV; null is an empty field, a flag is true or false."""
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.DictWriter(text, [c.name for c in _COLUMNS], lineterminator="\n")
        writer.writeheader()
        for row in rows(tables):
            writer.writerow({k: str(v).lower() if isinstance(v, bool) else v for k, v in row.items()})
        text.detach()


def write_trades_json(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write trips as one JSON array, an object a line; money is text, so that no reader rounds it."""
    with replacing(path) as file:
        separator = "[\n"
        for row in rows(tables):
            file.write((separator + json.dumps(row, ensure_ascii=False, allow_nan=False)).encode())
            separator = ",\n"
        file.write(b"\n]\n" if separator == ",\n" else b"[]\n")
