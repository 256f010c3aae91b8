"""From recorded frames to ``market_data.book_events``: a recording is read on from where it was left."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.book_log import Seam
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket.books.frames import parse
from pm_pipeline.sources.polymarket.books.ingest import Books, Taken
from pm_pipeline.sources.polymarket.books.recorder import the_only_recorder
from pm_pipeline.sources.polymarket.books.segments import Line, end_of, read_segment, segments
from pm_pipeline.warehouse.catalog import Catalog
from pm_pipeline.warehouse.files import atomic_write, storing
from pm_pipeline.warehouse.lake import Lake

SOURCE: Final = "recorded: market WebSocket"

Reading: TypeAlias = Literal["on", "anew"]
"""``on``: from where the last reading ended. ``anew``: from the first segment, for markets that the catalog
did not know then, or after a parser was mended; the same frames give the same rows."""


class Place(msgspec.Struct):
    """Where reading ended: in which segment, at which byte, and what was known there."""

    segment: str = ""
    byte: int = 0
    logs: dict[str, list[int]] = {}
    connections: dict[int, list[str]] = {}


@dataclass(frozen=True, slots=True)
class Reported:
    """What came of a reading: the markets, the frames, and the tokens that no market of the catalog has."""

    taken: list[Taken]
    frames: int
    unknown: frozenset[str]


class LineReader:
    """Applies the lines of a recording to books, and keeps in mind who is connected to what.

    ``ended`` is where the segment before ended, see :func:`~.segments.end_of`. A segment that continues
    anything else follows frames that are missing, or another recorder: all books are lost. ``catalog`` is
    asked for tokens that no market has: a recorder that runs may know more than when the reading began.
    """

    def __init__(
        self,
        books: Books,
        connections: dict[int, list[str]] | None = None,
        catalog: Callable[[], Iterable[Market]] = tuple,
    ) -> None:
        self._books = books
        self._catalog = catalog
        self.connections = dict(connections or {})
        self.ended = ""
        self.frames = 0
        self.unknown: set[str] = set()

    def apply(self, line: Line) -> None:
        """Take in one line. A frame that cannot be read is a gap in every book of its connection."""
        if line.what == "frame":
            self.frames += 1
            try:
                events = parse(line.text)
            except BadResponse as error:
                self._books.lost(self.connections.get(line.connection, ()), line.at, str(error))
                return
            for event in events:
                self._books.apply(event, line.at)
        elif line.what == "begin":
            if not line.text or line.text != self.ended:
                self.connections.clear()
                self._books.lost_all(line.at)
        elif line.what == "open":
            if line.connection not in self.connections:
                self._forget(line.tokens)
                self._books.lost(line.tokens, line.at)
            self.connections[line.connection] = line.tokens
            self._know(line.tokens)
        else:
            self.connections.pop(line.connection, None)
            self._books.lost(line.tokens, line.at)

    def _know(self, tokens: Iterable[str]) -> None:
        """Make sure that a market is followed for each token, or that the token is named as unknown."""
        unknown = {token for token in tokens if not self._books.follows(token)}
        if unknown - self.unknown:
            self._books.learn(self._catalog())
        self.unknown.update(token for token in unknown if not self._books.follows(token))

    def _forget(self, tokens: Iterable[str]) -> None:
        """A connection whose tokens are followed on another one ended without a word."""
        again = set(tokens)
        self.connections = {
            number: held for number, held in self.connections.items() if again.isdisjoint(held)
        }


def read_recording(
    lake: Lake, root: Path, markets: Iterable[Market], *, now: Nanos, reading: Reading = "on"
) -> Reported:
    """Put what was recorded under ``root`` since the last reading into the lake.

    Raises
    ------
    DamagedSegmentError
        for a segment that no recorder wrote.
    """
    running = _is_running(root)
    file = root / "read.json"
    place = _load(file) if reading == "on" else Place()
    with Books(lake, markets) as books:
        books.resume(place.logs)
        lines = LineReader(books, place.connections, lambda: Catalog(lake).markets().values())
        segment, byte, last = place.segment, place.byte, 0
        for path in segments(root):
            if path.name < place.segment:
                continue
            lines.ended = end_of(segment, byte)
            for line, end in read_segment(path, place.byte if path.name == place.segment else 0):
                lines.apply(line)
                segment, byte, last = path.name, end, line.at
        if not (running or _is_running(root)):  # nor did one begin meanwhile
            books.lost_all(last or None)
        taken = books.write(SOURCE, Seam.CONTINUOUS, now)
        logs = {token: log.state() for token, log in books.logs.items()}
    if not any(each.error for each in taken):
        with atomic_write(file) as temporary, storing(file):
            temporary.write_bytes(msgspec.json.encode(Place(segment, byte, logs, lines.connections)))
    return Reported(taken, lines.frames, frozenset(lines.unknown))


def _is_running(root: Path) -> bool:
    """Whether somebody records at this moment: else all that is still open was lost."""
    try:
        with the_only_recorder(root):
            return False
    except UsageError:
        return True


def _load(file: Path) -> Place:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Place)
    except FileNotFoundError:
        return Place()
    except msgspec.DecodeError as error:
        raise UsageError(f"{file} is damaged ({error}); read the recording anew") from error
