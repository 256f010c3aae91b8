"""Every recorded answer of Gamma, row by row, whatever it is wrapped in."""

import gzip
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from pm_pipeline_tests.shared import SHARED

_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)
_FOLDERS: Final = (
    ("samples/polymarket/gamma", "*"),
    ("recorded/polymarket_weather_2026/raw_polymarket", "*.ndjson.gz"),
    ("recorded/cross_venue_iran_2026_03", "polymarket_raw.json.gz"),
)

SAMPLES: Final = tuple(
    str(path.relative_to(SHARED))
    for folder, pattern in _FOLDERS
    for path in sorted((SHARED / folder).glob(pattern))
)
"""Names of the files, relative to the shared folder; none where that is absent."""


def documents(name: str) -> Iterator[Any]:
    """The documents of a file, decoded as the client decodes; a last line that was cut is left out."""
    path: Path = SHARED / name
    body = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    lines = body.splitlines() if "jsonl" in name or "ndjson" in name else [body]
    for line in lines:
        yield _DECODER.decode(line)


def read_rows(name: str) -> Iterator[dict[str, Any]]:
    """Every market in a file, those inside events too."""
    for document in documents(name):
        yield from _markets(document)


def read_events(name: str) -> Iterator[dict[str, Any]]:
    """Every event with its markets in a file."""
    for document in documents(name):
        yield from _events(document)


def _markets(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict) and "conditionId" in value and "outcomes" in value:
        yield value
    else:
        for inner in _inside(value):
            yield from _markets(inner)


def _events(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict) and isinstance(value.get("markets"), list) and "title" in value:
        yield value
    else:
        for inner in _inside(value):
            yield from _events(inner)


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict):
        yield from (inner for name, inner in value.items() if name != "clob_quotes")
