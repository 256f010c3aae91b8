"""Logs from files: JSON lines or JSON as nodes answer, or Parquet as exporters write them.

A file may hold any logs of the chain; those of the exchanges are picked. It must hold whole transactions.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pm_pipeline.errors import PipelineError, UsageError
from pm_pipeline.markets.clock import SECOND
from pm_pipeline.sources.adapter import Window
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket.onchain.chain import (
    Log,
    LogFileError,
    Tokens,
    in_order,
    of_exchanges,
    quantity,
    require_matched,
    to_events,
    wanted,
)
from pm_pipeline.sources.polymarket.onchain.fills import Events
from pm_pipeline.sources.wire import convert

_LINES: Final = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_JSON: Final = (".json", ".json.gz")
_PARQUET: Final = (".parquet",)
SUFFIXES: Final = (*_LINES, *_JSON, *_PARQUET)
"""Kinds of files that are read."""

_LISTS: Final = ("logs", "result")
_COLUMNS: Final = ("address", "data", "block_number", "transaction_hash", "log_index")
_TOPICS: Final = tuple(f"topic{n}" for n in range(4))
_TIMES: Final = ("block_timestamp", "timestamp")
_ROWS: Final = 16_384


def files_of(path: Path) -> list[Path]:
    """The files of logs at ``path``: itself, or those in the folder. Raises :class:`UsageError` for none."""
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    found = [file for file in files if file.name.endswith(SUFFIXES) and file.is_file()]
    if not found:
        raise UsageError(f"there is no file of logs at {path}; write one of {', '.join(SUFFIXES)}")
    return found


def read_files(files: Sequence[Path], tokens: Tokens) -> tuple[Events, Window]:
    """The fills of some tokens in all the files, and from when to when their logs of the exchanges go.

    Where the files hold ``OrdersMatched`` logs at all, every match is checked against them.

    Raises
    ------
    LogFileError
        when a file cannot be read, or its logs contradict each other.
    """
    mine: list[Log] = []
    own: list[Log] = []
    controlled = False
    first, last = 2**62, 0
    for file in files:
        try:
            for log in logs_of(file):
                fills, matched = of_exchanges([log])
                if not (fills or matched):
                    continue
                at = _second(log)
                first, last = min(first, at), max(last, at)
                controlled |= bool(matched)
                mine += wanted(fills, tokens)
                own += wanted(matched, tokens)
        except PipelineError as error:
            raise LogFileError(f"{file}: {error}") from error
    try:
        ordered = in_order(mine)
        if controlled:
            require_matched(ordered, in_order(own))
        return to_events(ordered, tokens), Window(first * SECOND, (last + 1) * SECOND) if last else Window(
            0, 0
        )
    except BadResponse as error:
        raise LogFileError(f"{', '.join(map(str, files[:3]))}: {error}") from error


def _second(log: Log) -> int:
    if log.block_timestamp is None:
        raise BadResponse("log: blockTimestamp is missing; export the logs with the time of their block")
    return quantity(log.block_timestamp, "blockTimestamp")


def logs_of(file: Path) -> Iterator[Log]:
    """The logs of one file, one by one. Raises :class:`LogFileError` when it cannot be read."""
    try:
        if file.name.endswith(_PARQUET):
            yield from _parquet(file)
        elif file.name.endswith(_LINES):
            with _opened(file) as lines:
                for line in lines:
                    if line.strip():
                        yield _log(msgspec.json.decode(line))
        else:
            with _opened(file) as whole:
                found: Any = msgspec.json.decode(whole.read())
            if isinstance(found, dict):
                found = next((found[name] for name in _LISTS if name in found), [found])
            yield from (_log(item) for item in convert(found, list[Any], "logs"))
    except (
        OSError,
        EOFError,
        zlib.error,
        pa.ArrowException,
        msgspec.DecodeError,
        UnicodeDecodeError,
        RecursionError,
    ) as e:
        raise LogFileError(f"it cannot be read: {type(e).__name__}: {e}") from e


def _log(item: Any) -> Log:
    return convert(item, Log, "log")


def _opened(file: Path) -> IO[bytes]:
    return gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")  # type: ignore[return-value]


def _parquet(file: Path) -> Iterator[Log]:
    """Rows of snake-case columns; hashes as bytes or as hexadecimal text, numbers as integers."""
    with pq.ParquetFile(file) as stored:
        names = stored.schema_arrow.names
        time = next((name for name in _TIMES if name in names), None)
        missing = [name for name in (*_COLUMNS, *_TOPICS) if name not in names]
        if missing or time is None:
            raise LogFileError(f"it lacks the column {(missing or [' or '.join(_TIMES)])[0]}")
        for batch in stored.iter_batches(_ROWS, columns=[*_COLUMNS, *_TOPICS, time]):
            for row in batch.to_pylist():
                topics = [_hexadecimal(row[topic], topic) for topic in _TOPICS if row[topic] is not None]
                yield Log(
                    address=_hexadecimal(row["address"], "address"),
                    topics=topics,
                    data=_hexadecimal(row["data"], "data"),
                    block_number=_number(row["block_number"], "block_number"),
                    transaction_hash=_hexadecimal(row["transaction_hash"], "transaction_hash"),
                    log_index=_number(row["log_index"], "log_index"),
                    block_timestamp=_number(row[time], time),
                )


def _hexadecimal(value: Any, column: str) -> str:
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, str):
        return value
    raise LogFileError(f"column {column} holds {type(value).__name__}, neither bytes nor text")


def _number(value: Any, column: str) -> str:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise LogFileError(f"column {column} holds times without a zone; write them as UTC")
        value = int(value.timestamp())
    if isinstance(value, int) and value >= 0:
        return hex(value)
    raise LogFileError(f"column {column} holds {value!r}, not a number")
