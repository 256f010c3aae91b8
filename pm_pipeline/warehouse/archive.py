"""The archive: raw pages as they arrived, so that they can be parsed again when a venue has dropped them.

Bodies are stored once under their SHA-256, compressed. Each answer to a request adds one line to a log that
bears the SHA-256 of the request. A page is on disk before the line that names it, so a kill loses at most
the line it was writing, which the next write removes.
"""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import zstandard

from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.warehouse.files import atomic_write, make_folder, storing, sync

_SECRET_HEADERS: Final = frozenset({"authorization", "cookie", "set-cookie", "proxy-authorization"})
_BLOCK: Final = 4096


class ArchiveError(PipelineError):
    """An archived page, or the log that names it, is damaged."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer to a request: when it came and which page it is."""

    request: str
    at: Nanos
    status: int
    headers: Mapping[str, str]
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Page(Entry):
    """An answer with its body."""

    body: bytes


def canonical_request(method: str, url: str, body: str | bytes | None = None) -> str:
    """The text that names a request: method, address with sorted query parameters, and body.

    Parameters of one name keep their order. Fragment and credentials in the address are dropped; a
    secret in a parameter or body is the caller's to leave out.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    query = urlencode(sorted(parse_qsl(parts.query, keep_blank_values=True), key=lambda pair: pair[0]))
    text = f"{method.upper()} {urlunsplit((parts.scheme.lower(), host, parts.path, query, ''))}"
    if not body:
        return text
    return f"{text}\n{body if isinstance(body, str) else body.decode(errors='backslashreplace')}"


class PageArchive:
    """Raw pages under ``root``: bodies in ``pages/``, what was asked and answered in ``requests/``.

    Any number of processes may write at once.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def put(self, request: str, body: bytes, *, status: int, headers: Mapping[str, str], at: Nanos) -> Page:
        """Keep one answer. Headers that carry credentials are dropped.

        Raises :class:`~pm_pipeline.warehouse.files.StorageError` when it cannot be written.
        """
        digest = hashlib.sha256(body).hexdigest()
        kept = {name.lower(): value for name, value in headers.items() if name.lower() not in _SECRET_HEADERS}
        page = Page(request, at, status, kept, digest, len(body), body)
        path = self._body_path(digest)
        if not path.exists():
            with atomic_write(path) as temporary, storing(path):
                temporary.write_bytes(zstandard.ZstdCompressor().compress(body))
        fields = {name: getattr(page, name) for name in _FIELDS}
        _append(self._log_path(request), json.dumps(fields, ensure_ascii=False).encode() + b"\n")
        return page

    def get(self, request: str, since: Nanos | None = None) -> Page | None:
        """The latest answer to a request, or the first from ``since`` on; ``None`` where there is none."""
        entries = list(_entries(self._log_path(request)))
        if since is not None:
            first = min((entry for entry in entries if entry.at >= since), key=_AT, default=None)
            return None if first is None else self.open(first)
        return self.open(max(reversed(entries), key=_AT)) if entries else None

    def moments(self, request: str) -> list[Nanos]:
        """When a request was answered, rising, each moment once."""
        return sorted({entry.at for entry in _entries(self._log_path(request))})

    def history(self, request: str) -> Iterator[Page]:
        """Every answer to a request, in the order in which they were kept."""
        return map(self.open, _entries(self._log_path(request)))

    def entries(self) -> Iterator[Entry]:
        """Every answer to every request, without the bodies."""
        for path in sorted((self.root / "requests").glob("??/*.jsonl")):
            yield from _entries(path)

    def open(self, entry: Entry) -> Page:
        """An answer with its body. Raises :class:`ArchiveError` when the body is lost or not what came."""
        path = self._body_path(entry.sha256)
        try:
            body = zstandard.ZstdDecompressor().decompress(path.read_bytes())
        except (OSError, zstandard.ZstdError) as error:
            raise ArchiveError(f"{path} cannot be read ({error}): {_REFETCH}") from error
        if hashlib.sha256(body).hexdigest() != entry.sha256:
            raise ArchiveError(f"{path} does not hold the page that its name says: {_REFETCH}")
        return Page(**{name: getattr(entry, name) for name in _FIELDS}, body=body)

    def _body_path(self, digest: str) -> Path:
        return self.root / "pages" / digest[:2] / f"{digest}.zst"

    def _log_path(self, request: str) -> Path:
        digest = hashlib.sha256(request.encode()).hexdigest()
        return self.root / "requests" / digest[:2] / f"{digest}.jsonl"


_AT: Final = attrgetter("at")
_FIELDS: Final = tuple(field.name for field in fields(Entry))
_REFETCH: Final = "remove the file and fetch that request again"


def _append(path: Path, line: bytes) -> None:
    """Add one line with one write; a torn line that a kill left at the end is cut off first."""
    with storing(path):
        make_folder(path.parent)
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            end = _end_of_whole_lines(descriptor)
            os.ftruncate(descriptor, end)
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, end)
                raise OSError(errno.ENOSPC, "the line did not fit")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync(path.parent)


def _end_of_whole_lines(descriptor: int) -> int:
    """Where the last whole line ends: the size of the file, unless a kill tore its last line."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - _BLOCK)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _entries(path: Path) -> Iterator[Entry]:
    """The entries of a log; a line without its line break was torn by a kill, and names nothing."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    for number, line in enumerate(lines, start=1):
        if line.endswith(b"\n"):
            try:
                yield Entry(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise ArchiveError(
                    f"line {number} of {path} is damaged: remove that line; its request is fetched again"
                ) from error
