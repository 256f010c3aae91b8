"""Many books at once: whose frames they are, and how their rows reach the lake in the memory of a few.

YES and NO are one book, mirrored; the token of outcome 0 is followed, and what comes for the other is left
out. Rows go through files of Arrow batches beside the lake, so that memory does not grow with a recording.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Final, Self

import pyarrow as pa

from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.book_log import BOOKS, Seam, ShorterAnswerError, Span, join
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket.books.frames import (
    BookFrame,
    Change,
    Event,
    PriceChange,
    Row,
    TickSizeChange,
    TokenLog,
    moment_of,
)
from pm_pipeline.warehouse.coverage import Coverage, CoverageStatus, write_coverage
from pm_pipeline.warehouse.files import TEMPORARY, storing
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.schema import table

HELD: Final = 200_000
"""Rows that are held in memory over all markets before the largest are put away."""

_STEP: Final = 65_536

SHOWN: Final = 20
"""Markets that a message lists."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of the rows of one market."""

    market_key: str
    coverage: Coverage
    error: ShorterAnswerError | None = None


class Books:
    """The books of ``markets`` while frames go by, and the rows that follow from them.

    Use it as a context manager: what it keeps on disk beside the lake goes when it is left.
    """

    def __init__(self, lake: Lake, markets: Iterable[Market], *, held: int = HELD) -> None:
        self._lake = lake
        self._keys: dict[str, str] = {}
        self.learn(markets)
        self.logs: dict[str, TokenLog] = {}
        self._since: dict[str, int] = {}
        self.unreadable: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._rows: dict[str, list[Row]] = {}
        self._count = 0
        self._held = held
        self._files: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._lake.require_current()
        if not self._lake.root.exists():
            self._lake.mark_version(self._lake.schema_version)
        with storing(self._lake.root):
            self._folder = Path(mkdtemp(prefix=TEMPORARY, dir=self._lake.root))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def learn(self, markets: Iterable[Market]) -> None:
        """Follow the books of these markets too."""
        self._keys |= {
            market.instruments[0].token_id: str(market.key)
            for market in markets
            if market.key.venue is Venue.POLYMARKET and market.instruments[0].token_id
        }

    def resume(self, states: Mapping[str, Sequence[int]]) -> None:
        """Go on from where the logs of tokens were left; see :meth:`TokenLog.state`."""
        for token, state in states.items():
            if self.follows(token):
                log = self.logs[token] = TokenLog.resume(state)
                self._since[token] = log.seq

    def follows(self, token: str) -> bool:
        """Whether the token is outcome 0 of a market that we know."""
        return token in self._keys

    def log(self, token: str) -> TokenLog:
        """The log of a token, begun where there is none."""
        return self.logs.setdefault(token, TokenLog())

    def apply(self, event: Event, received_at: Nanos | None) -> None:
        """Take in one event. A part that cannot be is a gap in the book that it is about."""
        if isinstance(event, BookFrame):
            self._guarded(event.asset_id, received_at, partial(_book, event, received_at))
        elif isinstance(event, PriceChange):
            changes: dict[str, list[Change]] = {}
            for change in event.price_changes:
                changes.setdefault(change.asset_id, []).append(change)
            for token, own in changes.items():
                self._guarded(token, received_at, partial(_change, event.timestamp, own, received_at))
        elif isinstance(event, TickSizeChange) and self.follows(event.asset_id):
            self.lost([event.asset_id], received_at)

    def lost(self, tokens: Iterable[str], received_at: Nanos | None, why: str = "") -> None:
        """The books of these tokens are unsound from their last message on."""
        for token in tokens:
            if not self.follows(token):
                continue
            if why:
                self.unreadable[token] += 1
                self._reasons.setdefault(token, why)
            if token in self.logs:
                self._add(token, self.logs[token].lost(received_at))

    def lost_all(self, received_at: Nanos | None, why: str = "") -> None:
        """Every book is unsound from its last message on."""
        self.lost(list(self.logs), received_at, why)

    def write(self, source: str, seam: Seam, ingested_at: Nanos) -> list[Taken]:
        """Put everything into the lake, market by market, with a coverage row for each."""
        self._put_away(0)
        return [
            self._write(token, source, seam, ingested_at)
            for token in sorted(self.logs, key=lambda token: self._keys[token])
            if self._files[token] or self.unreadable[token] or not self._lake.exists(BOOKS, self._keys[token])
        ]

    def _guarded(self, token: str, received_at: Nanos | None, take: Callable[[TokenLog], list[Row]]) -> None:
        if not self.follows(token):
            return
        try:
            self._add(token, take(self.log(token)))
        except BadResponse as error:
            self.lost([token], received_at, str(error))

    def _add(self, token: str, rows: list[Row]) -> None:
        self._rows.setdefault(token, []).extend(rows)
        self._count += len(rows)
        if self._count > self._held:
            self._put_away(self._held // 2)

    def _put_away(self, keep: int) -> None:
        """Write the rows of the largest markets to their files until so many are held."""
        for token in sorted(self._rows, key=lambda token: -len(self._rows[token])):
            if self._count <= keep:
                return
            rows = self._rows.pop(token)
            self._count -= len(rows)
            if not rows:
                continue
            path = self._folder / f"{token}-{self._files[token]:06d}.arrow"
            self._files[token] += 1
            with storing(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _SPOOLED) as file:
                columns = list(zip(*rows, strict=True))
                file.write_batch(
                    pa.RecordBatch.from_arrays(
                        [pa.array(v, f.type) for v, f in zip(columns, _SPOOLED, strict=True)], schema=_SPOOLED
                    )
                )

    def _pieces(self, token: str, ingested_at: Nanos) -> Iterator[pa.RecordBatch]:
        for number in range(self._files[token]):
            path = self._folder / f"{token}-{number:06d}.arrow"
            with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as file:
                for at in range(file.num_record_batches):
                    batch = file.get_batch(at)
                    for start in range(0, batch.num_rows, _STEP):
                        yield _declared(batch.slice(start, _STEP), self._keys[token], ingested_at)

    def _write(self, token: str, source: str, seam: Seam, ingested_at: Nanos) -> Taken:
        key = self._keys[token]
        error: ShorterAnswerError | None = None
        span = Span()
        try:
            pieces = partial(self._pieces, token, ingested_at)
            span = join(self._lake, key, pieces, seam=seam, since=self._since.get(token))
        except ShorterAnswerError as shorter:
            error = shorter
        bad = self.unreadable[token]
        reasons = [] if span.rows or error else ["no whole book came"]
        if bad:
            reasons.append(f"{bad} messages could not be read and are gaps; first: {self._reasons[token]}")
        status = CoverageStatus.COMPLETE if span.rows else CoverageStatus.EMPTY
        coverage = Coverage(
            table=BOOKS,
            partition=(key,),
            source=source,
            status=CoverageStatus.FAILED if error else status,
            asked_from=None,
            asked_to=None,
            got_from=span.first_ts if span.rows else None,
            got_to=span.last_ts if span.rows else None,
            rows=span.rows,
            gaps=span.gaps,
            reason=str(error) if error else "; ".join(reasons),
            ingested_at=ingested_at,
        )
        write_coverage(self._lake, coverage)
        return Taken(key, coverage, error)


def require_all(taken: Sequence[Taken]) -> None:
    """Raise :class:`PipelineError` where a market's books were not written."""
    failed = [each for each in taken if each.error]
    if failed:
        shown = "\n".join(f"  {each.market_key}: {each.error}" for each in failed[:SHOWN])
        raise PipelineError(
            f"{len(failed)} of {len(taken)} markets were not written; their former rows stay:\n{shown}"
        )


def _book(frame: BookFrame, received_at: Nanos | None, log: TokenLog) -> list[Row]:
    return log.book(frame.bids, frame.asks, moment_of(frame.timestamp), received_at)


def _change(timestamp: str, own: list[Change], received_at: Nanos | None, log: TokenLog) -> list[Row]:
    return log.changes(own, moment_of(timestamp), received_at)


_SPOOLED: Final = pa.schema(
    [
        ("ts", pa.int64()),
        ("known_at", pa.int64()),
        ("seq", pa.uint64()),
        ("kind", pa.string()),
        ("side", pa.string()),
        ("price", pa.int64()),
        ("size", pa.int64()),
    ]
)


def _declared(batch: pa.RecordBatch, key: str, ingested_at: Nanos) -> pa.RecordBatch:
    """Spooled rows with the columns of the table."""
    constant: Mapping[str, object] = {"market_key": key, "ingested_at": ingested_at // 1000}
    times = {"ts", "known_at"}
    columns = []
    for field in table(BOOKS).arrow:
        if field.name in constant:
            columns.append(pa.array([constant[field.name]] * batch.num_rows, field.type))
        elif field.name in times:
            micros = batch[field.name].to_numpy() // 1000
            columns.append(pa.array(micros).cast(field.type))
        else:
            columns.append(batch[field.name].cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=table(BOOKS).arrow)
