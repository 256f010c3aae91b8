"""Raw frames on disk: appended, compressed, and counted as kept only when they are on the disk.

A segment is a file of Zstandard frames, each of them whole lines of JSON, one per WebSocket frame;
``zstd -dc`` reads it. A kill tears at most the last Zstandard frame, of which nobody was told: readers drop
it.
"""

import asyncio
import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Literal, TypeAlias

import msgspec
import zstandard

from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.clock import FOREVER, SECOND, Nanos
from pm_pipeline.warehouse.files import StorageError, make_folder, storing, sync

SUFFIX: Final = ".jsonl.zst"
MOST_HELD: Final = 16 << 20
"""Bytes that wait for the disk before reading from the sockets stops."""

_BLOCK: Final = 1 << 20

_NAME: Final = re.compile(r"(\d{8}T\d{6})\.(\d{9})Z")

Happening: TypeAlias = Literal["begin", "frame", "open", "lost", "stop"]
"""``begin``: a segment begins; ``text`` names the one that it continues and the byte at which that ended, and
is empty where a recorder began. ``frame``: the venue sent ``text``. ``open``: a connection follows ``tokens``
from now on. ``lost``: it does not any more, for the reason in ``text``. ``stop``: the recorder ended in
order."""


class Line(msgspec.Struct, omit_defaults=True):
    """One line of a segment: when it happened (nanoseconds of our clock), on which connection, and what."""

    at: Annotated[Nanos, msgspec.Meta(ge=0, lt=FOREVER)]
    connection: int
    what: Happening = "frame"
    text: str = ""
    tokens: list[str] = []


class DamagedSegmentError(PipelineError):
    """A segment holds something else than what a recorder wrote."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a segment is full, and how often what was received is forced to the disk."""

    bytes: int = 256 << 20
    seconds: float = 3600.0
    sync_seconds: float = 1.0


class SegmentWriter:
    """Appends lines to segments under ``root``. One task calls :meth:`run`, any may call :meth:`put`.

    ``received`` counts frames that came, ``acknowledged`` those that no kill and no power cut can take away.
    """

    def __init__(
        self,
        root: Path,
        rotation: Rotation,
        *,
        carried: Callable[[], Sequence[Line]] = tuple,
        clock: Callable[[], Nanos] = time.time_ns,
    ) -> None:
        self._root = root
        self._rotation = rotation
        self._carried = carried
        self._clock = clock
        self._waiting: list[bytes] = []
        self._frames = self._bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._descriptor: int | None = None
        self._former = ""
        self._size = 0
        self._opened = 0
        self._room = asyncio.Event()
        self._room.set()
        self.path: Path | None = None
        self.received = self.acknowledged = self.segments = self.written = 0

    async def put(self, line: Line) -> None:
        """Take in one line; waits while the disk is behind."""
        await self._room.wait()
        encoded = msgspec.json.encode(line) + b"\n"
        self._waiting.append(encoded)
        self._bytes += len(encoded)
        if line.what == "frame":
            self._frames += 1
            self.received += 1
        if self._bytes > MOST_HELD:
            self._room.clear()

    async def run(self) -> None:
        """Force what came to the disk, again and again, until cancelled.

        Raises
        ------
        StorageError
            when it cannot be written, for example on a full disk. What was acknowledged is unharmed.
        """
        while True:
            await asyncio.sleep(self._rotation.sync_seconds)
            await self.flush()

    async def flush(self) -> None:
        """Write what waits as one Zstandard frame, and wait for the disk.

        A write that has begun goes on when this is cancelled; the next call waits for it first.
        """
        while self._writing is not None:
            await asyncio.shield(self._writing)
        lines, frames = self._waiting, self._frames
        self._waiting, self._frames, self._bytes = [], 0, 0
        self._room.set()
        if lines:
            self._writing = asyncio.create_task(self._write(lines, frames, self._carried()))
            await asyncio.shield(self._writing)

    async def _write(self, lines: Sequence[bytes], frames: int, carried: Sequence[Line]) -> None:
        try:
            await asyncio.to_thread(self._append, lines, carried)
            self.acknowledged += frames
        finally:
            self._writing = None

    def close(self) -> None:
        """Close the segment; call :meth:`flush` before."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self._former = "" if self.path is None else end_of(self.path.name, self._size)

    def _append(self, lines: Sequence[bytes], carried: Sequence[Line]) -> None:
        now = self._clock()
        if self._descriptor is not None and (
            self._size >= self._rotation.bytes
            or not 0 <= now - self._opened < self._rotation.seconds * SECOND  # also a clock that was set back
        ):
            self.close()
        if self._descriptor is None:
            self._open(now)
            first = Line(now, 0, "begin", self._former)
            lines = [*(msgspec.json.encode(line) + b"\n" for line in (first, *carried)), *lines]
        assert self.path is not None
        assert self._descriptor is not None
        data = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(b"".join(lines))
        try:
            with storing(self.path):
                written = os.write(self._descriptor, data)
                if written != len(data):
                    raise OSError(errno.ENOSPC, "the frames did not fit")
                os.fsync(self._descriptor)
        except StorageError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)
        self.written += len(data)

    def _open(self, now: Nanos) -> None:
        stamp = max([now, *(_stamp_of(path.name) + 1 for path in segments(self._root)[-1:])])
        moment = datetime.fromtimestamp(stamp // SECOND, UTC)
        name = f"{moment:%Y%m%dT%H%M%S}.{stamp % SECOND:09d}Z{SUFFIX}"
        self.path = self._root / f"{moment:%Y-%m-%d}" / name
        with storing(self.path):
            make_folder(self.path.parent)
            self._descriptor = os.open(
                self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
            )
            sync(self.path.parent)
        self._size, self._opened = 0, now
        self.segments += 1


def segments(root: Path) -> list[Path]:
    """The segments under ``root`` in the order in which they were written, which is that of their names."""
    return sorted(root.glob(f"*/*{SUFFIX}"), key=lambda path: path.name)


def end_of(name: str, size: int) -> str:
    """How the segment that follows names the one before it; one that is missing or shorter is noticed."""
    return f"{name} {size}"


def _stamp_of(name: str) -> Nanos:
    """The nanoseconds in the name of a segment; a later one is named later, whatever the clock says."""
    found = _NAME.match(name)
    if found is None:
        return 0
    moment = datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return int(moment.timestamp()) * SECOND + int(found[2])


def read_segment(path: Path, start: int = 0) -> Iterator[tuple[Line, int]]:
    """The lines of a segment, each with the place in the file where its Zstandard frame ends.

    ``start`` is such a place. A torn last frame is left out; a recorder may still be writing it.

    Raises
    ------
    DamagedSegmentError
        for anything that no recorder wrote.
    """
    decoder = msgspec.json.Decoder(Line)
    for data, end in _whole_frames(path, start):
        for text in data.splitlines():
            try:
                yield decoder.decode(text), end
            except (msgspec.DecodeError, UnicodeError) as error:
                raise DamagedSegmentError(
                    f"{path} holds a line that no recorder wrote ({error}); move the file away, and what it "
                    "held becomes a gap"
                ) from error


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error}") from error


def _whole_frames(path: Path, start: int) -> Iterator[tuple[bytes, int]]:
    """The contents of each Zstandard frame that is there as a whole, and where it ends."""
    with _reading(path) as file:
        file.seek(start)
        place, rest = start, b""
        while True:
            reader, parts, read = zstandard.ZstdDecompressor().decompressobj(), [], 0
            while not reader.eof:
                block, rest = rest or file.read(_BLOCK), b""
                if not block:
                    return
                read += len(block)
                try:
                    parts.append(reader.decompress(block))
                except zstandard.ZstdError as error:
                    raise DamagedSegmentError(
                        f"{path} is damaged at byte {place} ({error}); `truncate -s {place}` keeps what "
                        "stands before it, and the rest becomes a gap"
                    ) from error
            rest = reader.unused_data
            place += read - len(rest)
            yield b"".join(parts), place
