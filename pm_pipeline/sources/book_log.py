"""Adding to the stored log of an order book, so that no reading ever takes away what was there.

New rows replace what is stored of the time that they cover, and nothing else: rows before and after them
stay. Where a stream ends and nobody knows how it went on, a gap is written, and no order is filled across it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.sources.errors import SourceError
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.schema import table

BOOKS: Final = "market_data.book_events"

Pieces: TypeAlias = Callable[[], Iterator[pa.RecordBatch]]
"""Rows of one market in order of ``seq``; each call begins anew, so that they need not fit into memory."""

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_LEVEL: Final = ("side", "price", "size")


class ShorterAnswerError(SourceError):
    """A source now gives less than we already have: its history expired, or it lies."""


class Seam(StrEnum):
    """How new rows meet those before them.

    ``BROKEN``: time passed that nobody watched; a stream that ended there ends with a gap.
    ``CONTINUOUS``: whoever made the rows also made those before, and wrote the gaps himself. What others
    added since gives way.
    """

    BROKEN = "broken"
    CONTINUOUS = "continuous"


@dataclass(slots=True)
class Span:
    """What some rows amount to. A message is all the rows of one ``seq``; a gap is none."""

    rows: int = 0
    gaps: int = 0
    messages: int = 0
    first_seq: int = 0
    first_kind: str = ""
    first_ts: Nanos = 0
    last_seq: int = -1
    last_told: int = -1
    last_ts: Nanos = 0
    last_known: Nanos = 0
    last_ingested: Nanos = 0
    last_kind: str = ""
    last_reset: int = -1

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in the next rows."""
        if not batch.num_rows:
            return
        seq = batch["seq"].to_numpy()
        if not self.rows:
            self.first_seq, self.first_kind = int(seq[0]), batch["kind"][0].as_py()
            self.first_ts = _nanos(batch, "ts", 0)
        is_gap = pc.equal(batch["kind"], "gap").to_numpy(zero_copy_only=False)
        told = seq[~is_gap]
        if len(told):
            self.messages += int(np.count_nonzero(np.diff(told))) + (int(told[0]) != self.last_told)
            self.last_told = int(told[-1])
        self.rows += len(seq)
        self.gaps += int(is_gap.sum())
        resets = np.flatnonzero(pc.equal(batch["kind"], "reset").to_numpy(zero_copy_only=False))
        if len(resets):
            self.last_reset = int(seq[resets[-1]])
        self.last_seq, self.last_kind = int(seq[-1]), batch["kind"][-1].as_py()
        self.last_ts, self.last_known, self.last_ingested = (
            _nanos(batch, name, -1) for name in ("ts", "known_at", "ingested_at")
        )

    @property
    def size(self) -> tuple[int, int]:
        """How much is told: messages, then rows; gaps tell nothing."""
        return self.messages, self.rows - self.gaps

    @property
    def is_stream(self) -> bool:
        """Whether the rows end by a change: a book that was watched, and is not any more."""
        return self.last_kind == "level" and self.last_reset != self.last_seq


def span_of(batches: Iterator[pa.RecordBatch]) -> Span:
    """The span of all the rows."""
    span = Span()
    for batch in batches:
        span.add(batch)
    return span


def stored(lake: Lake, key: str) -> Iterator[pa.RecordBatch]:
    """The stored log of a market; nothing where there is none."""
    if lake.exists(BOOKS, key):
        yield from lake.batches(BOOKS, key, table(BOOKS).arrow.names)


def join(
    lake: Lake,
    key: str,
    pieces: Pieces,
    *,
    seam: Seam,
    since: int | None = None,
    meta: Mapping[str, str] = _NOTHING,
) -> Span:
    """Put new rows into the log of a market; what the log then holds in all. Others who do so wait.

    ``since`` is the last ``seq`` that the same writer wrote before, where the seam is continuous.

    Raises
    ------
    ShorterAnswerError
        when fewer messages came than are stored of the same time, or as many with fewer levels. Nothing is
        written.
    """
    with lake.changing(BOOKS, key):
        return _join(lake, key, pieces, seam, since, meta)


def _join(
    lake: Lake, key: str, pieces: Pieces, seam: Seam, since: int | None, meta: Mapping[str, str]
) -> Span:
    new = span_of(pieces())
    former = lake.info(BOOKS, key)
    if not new.rows and not meta:
        return span_of(stored(lake, key))
    meta = {**(former.meta if former else {}), **meta}
    if not new.rows:
        return _write(lake, key, lambda: stored(lake, key), meta)
    if since is not None and new.first_kind != "gap":
        new.first_seq = since + 1
    before, inside, after = (span_of(part) for part in _parts(lake, key, new))
    if since is None and inside.size > new.size:
        raise ShorterAnswerError(
            f"the source now has {new.messages} book messages ({new.rows} rows) of {key}, where "
            f"{inside.messages} ({inside.rows} rows) are already in the lake; they were kept. Delete the "
            "partition first if the former rows were wrong"
        )

    def whole() -> Iterator[pa.RecordBatch]:
        yield from _parts(lake, key, new)[0]
        if seam is Seam.BROKEN and before.is_stream:
            yield _gap(key, before, min(before.last_seq + 1, new.first_seq - 1))
        yield from pieces()
        if after.first_kind == "level" or (after.rows and seam is Seam.BROKEN and new.is_stream):
            yield _gap(key, new, min(new.last_seq + 1, after.first_seq - 1))
        yield from _parts(lake, key, new)[2]

    return _write(lake, key, whole, meta)


def join_reading(lake: Lake, key: str, rows: pa.Table, meta: Mapping[str, str] = _NOTHING) -> Span:
    """Put what a venue showed at one reading into the log: like :func:`join`, with a broken seam.

    A book that does not differ from the last one stored, or that is older, adds nothing.
    """
    batches = rows.sort_by("seq").to_batches()
    with lake.changing(BOOKS, key):
        former = span_of(stored(lake, key))
        new = span_of(iter(batches))
        if new.messages == 1 and new.last_kind != "gap" and new.first_seq > former.last_seq:
            stale = new.first_ts < former.last_ts
            if stale or (new.first_ts == former.last_ts and _levels(rows) == _last_book(lake, key, former)):
                batches = []
        return _join(lake, key, lambda: iter(batches), Seam.BROKEN, None, meta)


def _write(lake: Lake, key: str, pieces: Pieces, meta: Mapping[str, str]) -> Span:
    written = Span()

    def counted() -> Iterator[pa.RecordBatch]:
        for batch in pieces():
            written.add(batch)
            yield batch

    lake.write(BOOKS, key, counted(), meta=meta)
    return written


def _parts(
    lake: Lake, key: str, new: Span
) -> tuple[Iterator[pa.RecordBatch], Iterator[pa.RecordBatch], Iterator[pa.RecordBatch]]:
    """The stored rows before, within and after the time that ``new`` covers."""

    def between(low: int | None, high: int | None) -> Iterator[pa.RecordBatch]:
        for batch in stored(lake, key):
            seq = batch["seq"].to_numpy()
            start = 0 if low is None else int(np.searchsorted(seq, low))
            stop = len(seq) if high is None else int(np.searchsorted(seq, high))
            if stop > start:
                yield batch.slice(start, stop - start)

    first, end = new.first_seq, new.last_seq + 1
    return between(None, first), between(first, end), between(end, None)


def _gap(key: str, at: Span, seq: int) -> pa.RecordBatch:
    """The row that says that the book is unsound since the last one."""
    row: dict[str, Any] = {
        "market_key": key,
        "ts": at.last_ts // 1000,
        "known_at": at.last_known // 1000,
        "ingested_at": at.last_ingested // 1000,
        "seq": seq,
        "kind": "gap",
    }
    schema = table(BOOKS).arrow
    columns = [pa.array([row.get(field.name)], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _last_book(lake: Lake, key: str, former: Span) -> set[tuple[Any, ...]] | None:
    """The levels of the last message, where it is a whole book."""
    if former.last_reset != former.last_seq or former.last_kind == "gap":
        return None
    found: set[tuple[Any, ...]] = set()
    for batch in stored(lake, key):
        found |= _levels(pa.Table.from_batches([batch]).filter(pc.equal(batch["seq"], former.last_seq)))
    return found


def _levels(rows: pa.Table) -> set[tuple[Any, ...]]:
    levels = rows.filter(pc.equal(rows["kind"], "level"))
    return set(zip(*(levels[name].to_pylist() for name in _LEVEL), strict=True))


def _nanos(batch: pa.RecordBatch, name: str, row: int) -> Nanos:
    row = row % batch.num_rows
    return int(batch[name].cast(pa.int64())[row].as_py()) * 1000
