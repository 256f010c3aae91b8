"""Importing books that somebody else recorded: hourly PMXT Parquet files, and recordings as lines of JSON.

All go through the same checks and the same join as our own recordings. A layout that is not known is refused
by the names of the columns that are missing.
"""

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import HOUR, Nanos, parse_time, to_nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.book_log import Seam
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket.books.frames import (
    BookFrame,
    Change,
    Event,
    PriceChange,
    TickSizeChange,
    parse,
)
from pm_pipeline.sources.polymarket.books.ingest import Books, Taken
from pm_pipeline.sources.polymarket.books.recordings import LineReader
from pm_pipeline.sources.polymarket.books.segments import SUFFIX, Line, read_segment
from pm_pipeline.sources.polymarket.wire import BookLevel
from pm_pipeline.warehouse.files import StorageError
from pm_pipeline.warehouse.lake import Lake

_BATCH: Final = 65_536
_HOUR: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d)")
_NAMES: Final = ("*.parquet", "*.jsonl", "*.jsonl.gz", "*.jsonl.zst")
_MESSAGE: Final = ("asset_id", "timestamp", "timestamp_received", "event_type")
_TEXTS: Final = frozenset({"event_type", "bids", "asks", "side", "update_type", "data"})
_LARGEST_LINE: Final = 64 << 20
_SILENT: Final = frozenset({"last_trade_price", "best_bid_ask", "new_market", "market_resolved"})
"""Types of events that say nothing of a book; see :mod:`~pm_pipeline.sources.polymarket.books.frames`."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import: the markets, and how many messages were read."""

    taken: list[Taken]
    messages: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A form of Parquet file: the columns it needs, the one that names the token, and how a row is read."""

    name: str
    columns: tuple[str, ...]
    events: Callable[[pa.RecordBatch, Books], Iterator[tuple[Event, Nanos]]]


def import_files(lake: Lake, paths: Sequence[Path], markets: Iterable[Market], *, now: Nanos) -> Imported:
    """Put the books of ``markets`` that ``paths`` hold into the lake.

    Files are read in the order of the hours in their names, else of the names. Where an hour is missing, or
    nothing says that a file follows the one before, there is a gap.

    Raises
    ------
    UsageError
        for a file that is none of the known forms, before anything is written.
    """
    ordered = sorted(paths, key=lambda path: (hour_of(path) or 0, path.name))
    readers = [_reader_of(path) for path in ordered]
    messages, last, before = 0, 0, None
    with Books(lake, markets) as books:
        for path, read in zip(ordered, readers, strict=True):
            hour = hour_of(path)
            if before is None or hour != before + HOUR:
                books.lost_all(last or None)
            before = hour
            for at in read(path, books):
                messages, last = messages + 1, max(last, at)
        books.lost_all(last or None)
        forms = ", ".join(sorted({_form(path) for path in ordered}))
        taken = books.write(f"imported: {forms}", Seam.BROKEN, now)
    return Imported(taken, messages)


def hour_of(path: Path) -> Nanos | None:
    """The hour that a file's name states, as ``2026-04-17T12``."""
    found = _HOUR.search(path.name)
    return parse_time(f"{found[1]}T{found[2]}:00:00Z") if found and not path.name.endswith(SUFFIX) else None


def layout_of(path: Path, columns: Sequence[str]) -> Layout:
    """The layout that has these columns. Raises :class:`UsageError` that names what is missing."""
    missing = {layout: [name for name in layout.columns if name not in columns] for layout in LAYOUTS}
    for layout, names in missing.items():
        if not names:
            return layout
    shown = "; ".join(f"{layout.name} needs {', '.join(names)} too" for layout, names in missing.items())
    raise UsageError(f"{path} has the columns {', '.join(columns)}, which no known layout has: {shown}")


def _require_types(path: Path, schema: pa.Schema, layout: Layout) -> None:
    """Raise :class:`UsageError` where a column cannot be what the layout has it hold."""
    for name in layout.columns:
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        plain = pa.types.is_null(kind) or (not pa.types.is_nested(kind) and name not in _TEXTS)
        if not (plain or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise UsageError(f"column {name} of {path} holds {kind}, which {layout.name} does not")


_Read = Callable[[Path, Books], Iterator[Nanos]]


def _form(path: Path) -> str:
    return "PMXT Parquet" if path.suffix == ".parquet" else "frames as JSON lines"


def _reader_of(path: Path) -> _Read:
    """How a file is read; its layout is looked at now."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name the files in it ({', '.join(_NAMES)})")
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    if path.suffix == ".parquet":
        try:
            schema = pq.read_schema(path)
            layout = layout_of(path, schema.names)
            _require_types(path, schema, layout)
        except pa.ArrowException as error:
            raise UsageError(f"{path} is no Parquet file: {error}") from None
        return lambda path, books: _read_parquet(path, layout, books)
    if not any(path.match(name) for name in _NAMES):
        raise UsageError(f"{path} is none of {', '.join(_NAMES)}")
    with _lines(path) as lines:
        first = next(iter(lines), b"")
    if _is_ours(first):
        return _read_recording
    try:
        parse(first.strip() or b"[]")
    except BadResponse as error:
        raise UsageError(
            f"{path} does not begin with a frame of the market WebSocket, nor with a line of a recorder, "
            f"which has at, connection and text: {error}"
        ) from None
    return _read_frames


# ------------------------------------------------------------------ Parquet


def _read_parquet(path: Path, layout: Layout, books: Books) -> Iterator[Nanos]:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(_BATCH, columns=list(layout.columns)):
                for event, at in layout.events(batch, books):
                    books.apply(event, at)
                    yield at
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{path} cannot be read to its end ({error}); nothing was imported") from error


def _typed(batch: pa.RecordBatch, books: Books) -> Iterator[tuple[Event, Nanos]]:
    """PMXT since April 2026: a row per change, the sides of a book as JSON text."""
    rows = _followed(batch, "asset_id", books).to_pylist()
    for (token, ts, known, kind), group in groupby(
        rows, key=lambda row: tuple(row[name] for name in _MESSAGE)
    ):
        stamp, at = _millis(ts), _nanos(known)
        own = list(group)
        if kind == "price_change":
            if any(row[name] is None for row in own for name in ("price", "size", "side")):
                raise BadResponse(f"PMXT: a price_change of {token} at {ts} lacks price, size or side")
            changes = [Change(token, row["price"], row["size"], row["side"]) for row in own]
            yield PriceChange(stamp, changes), at
        for row in own:
            if kind == "book":
                yield BookFrame(token, stamp, _levels(row["bids"]), _levels(row["asks"])), at
            elif kind == "tick_size_change":
                yield TickSizeChange(token, stamp, row["new_tick_size"]), at
            elif kind != "price_change" and kind not in _SILENT:
                raise BadResponse(f"PMXT: event_type {kind!r} of {token} at {ts} is unknown")


class _Payload(msgspec.Struct):
    """What the JSON of an early PMXT row holds."""

    token_id: str
    bids: list[tuple[Decimal, Decimal]] = []
    asks: list[tuple[Decimal, Decimal]] = []
    change_price: Decimal | None = None
    change_size: Decimal | None = None
    change_side: str | None = None


_PAYLOAD: Final = msgspec.json.Decoder(_Payload)
_PAIRS: Final = msgspec.json.Decoder(list[tuple[Decimal, Decimal]])


def _packed(batch: pa.RecordBatch, books: Books) -> Iterator[tuple[Event, Nanos]]:
    """PMXT up to April 2026: a row per change as JSON text. It has no time of the venue's, only its own."""
    for row in batch.to_pylist():
        payload = _decoded(_PAYLOAD, row["data"])
        if not books.follows(payload.token_id):
            continue
        at = _nanos(row["timestamp_received"])
        stamp = _millis(row["timestamp_received"])
        if row["update_type"] == "book_snapshot":
            yield BookFrame(payload.token_id, stamp, _level_list(payload.bids), _level_list(payload.asks)), at
        elif row["update_type"] == "price_change":
            price, size, side = payload.change_price, payload.change_size, payload.change_side
            if price is None or size is None or side is None:
                raise BadResponse(
                    f"PMXT: a price_change lacks change_price, change_size or change_side: {row}"
                )
            change = Change(payload.token_id, price, size, side.upper())
            yield PriceChange(stamp, [change]), at
        else:
            raise BadResponse(f"PMXT: update_type {row['update_type']!r} of {payload.token_id} is unknown")


LAYOUTS: Final = (
    Layout(
        "PMXT v2",
        (
            "timestamp_received",
            "timestamp",
            "event_type",
            "asset_id",
            "bids",
            "asks",
            "price",
            "size",
            "side",
            "new_tick_size",
        ),
        _typed,
    ),
    Layout("PMXT v1", ("timestamp_received", "update_type", "data"), _packed),
)
"""The layouts that are known, the newest first."""


def _followed(batch: pa.RecordBatch, column: str, books: Books) -> pa.RecordBatch:
    tokens = batch[column].cast(pa.string())
    known = [token for token in pc.unique(tokens).to_pylist() if token is not None and books.follows(token)]
    return batch.filter(pc.is_in(tokens, pa.array(known, pa.string())))


def _decoded(decoder: "msgspec.json.Decoder[Any]", text: str | None) -> Any:
    try:
        return decoder.decode(text or "[]")
    except (msgspec.DecodeError, ArithmeticError, RecursionError, TypeError) as error:
        raise BadResponse(f"PMXT: {error}: {str(text)[:60]!r}") from error


def _levels(text: str | None) -> list[BookLevel]:
    return _level_list(_decoded(_PAIRS, text))


def _level_list(pairs: Iterable[tuple[Decimal, Decimal]]) -> list[BookLevel]:
    return [BookLevel(price, size) for price, size in pairs]


def _nanos(moment: Any) -> Nanos:
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise BadResponse(f"PMXT: {moment!r} is no time with a zone")
    return to_nanos(moment)


def _millis(moment: Any) -> str:
    return str(_nanos(moment) // 1_000_000)


# ------------------------------------------------------------------ lines of JSON


def _read_recording(path: Path, books: Books) -> Iterator[Nanos]:
    """Lines as our recorder writes them."""
    reader = LineReader(books)
    if path.name.endswith(SUFFIX):
        lines: Iterable[Line] = (line for line, _ in read_segment(path))
        for line in lines:
            reader.apply(line)
            yield line.at
        return
    with _lines(path) as texts:
        for number, text in enumerate(texts, 1):
            try:
                line = msgspec.json.decode(text, type=Line)
            except (msgspec.DecodeError, UnicodeError) as error:
                raise UsageError(f"{path}, line {number}: {error}") from None
            reader.apply(line)
            yield line.at


def _read_frames(path: Path, books: Books) -> Iterator[Nanos]:
    """Bare frames, one per line; when they came is not known, so the venue's own time counts."""
    with _lines(path) as texts:
        for text in texts:
            try:
                events = parse(text.strip() or b"[]")
            except BadResponse as error:
                books.lost_all(None, str(error))
                continue
            for event in events:
                books.apply(event, None)
                yield 0


def _is_ours(first: bytes) -> bool:
    try:
        msgspec.json.decode(first, type=Line)
    except (msgspec.DecodeError, UnicodeError):
        return False
    return True


class _Unpacked(io.RawIOBase):
    """What a file of Zstandard frames holds. One that is cut is an error, which the library's own reader does
    not notice."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._reader: Any = None
        self._rest = self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held:
            block, self._rest = self._rest or self._file.read(_BATCH), b""
            if not block:
                if self._reader is not None:
                    raise EOFError("it is cut within a Zstandard frame")
                return 0
            self._reader = self._reader or zstandard.ZstdDecompressor().decompressobj()
            self._held = self._reader.decompress(block)
            if self._reader.eof:
                self._rest, self._reader = self._reader.unused_data, None
        count = min(len(buffer), len(self._held))
        buffer[:count], self._held = self._held[:count], self._held[count:]
        return count


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[bytes]]:
    try:
        with path.open("rb") as raw:
            file: IO[bytes] | gzip.GzipFile = raw
            if path.suffix == ".gz":
                file = gzip.GzipFile(fileobj=raw)
            elif path.suffix == ".zst":
                file = io.BufferedReader(_Unpacked(raw))
            yield iter(lambda: file.readline(_LARGEST_LINE), b"")
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise StorageError(f"{path} cannot be read to its end ({error}); nothing was imported") from error
