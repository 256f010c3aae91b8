"""Writing a file so that a kill, a full disk or a power cut leaves the old one or the new one, never half."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias
from uuid import uuid4

from pm_pipeline.errors import PipelineError

Durability: TypeAlias = Literal["fsync", "rename"]
"""``fsync``: a finished write survives a power cut. ``rename``: it survives a kill only, and is faster."""

TEMPORARY: Final = ".tmp-"
"""Names that begin so are unfinished; no reader looks at them and a sweep may remove them."""


class StorageError(PipelineError):
    """A file cannot be written, or what is stored cannot be read."""


_FULL: Final = "the disk is full; free some space and run again"
_FORBIDDEN: Final = "it may not be written; check its owner and permissions"
_ADVICE: Final = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "the file size limit of this process is reached; raise it (ulimit -f) and run again",
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: _FORBIDDEN,
    errno.ENAMETOOLONG: "the name is too long for the file system; use a shorter key",
}


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` of a write into a :class:`StorageError` that names ``path`` and what to do."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "check the disk and run again")
        raise StorageError(
            f"cannot write {path}: {advice}. What was stored there before is unharmed. ({error})"
        ) from error


@contextmanager
def atomic_write(path: Path, durability: Durability = "fsync") -> Iterator[Path]:
    """Yield a temporary name beside ``path``; what the caller wrote there replaces ``path`` at the end.

    When the block raises, the temporary file is removed and ``path`` stays as it was.
    """
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{uuid4().hex}"
    with storing(path):
        make_folder(path.parent, durability)
    try:
        yield temporary
        with storing(path):
            if durability == "fsync":
                sync(temporary)
            temporary.replace(path)
            if durability == "fsync":
                sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path, durability: Durability = "fsync") -> None:
    """Create a folder and what is missing above it, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent, durability)
    folder.mkdir(exist_ok=True)
    if durability == "fsync":
        sync(folder.parent)


def sync(path: Path) -> None:
    """Wait until the file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
