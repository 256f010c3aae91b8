"""Locks between processes, held on a sidecar file so that the file itself can be renamed over."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

from pm_pipeline.errors import PipelineError
from pm_pipeline.warehouse.files import make_folder, storing

LockMode: TypeAlias = Literal["shared", "exclusive"]

_OPERATION: Final = {"shared": fcntl.LOCK_SH, "exclusive": fcntl.LOCK_EX}
_POLL_S: Final = 0.02


class LockTimeoutError(PipelineError):
    """Somebody else held the lock for longer than we were ready to wait."""


def lock_path(path: Path) -> Path:
    """The sidecar that is locked on behalf of ``path``."""
    return path.with_name(f"{path.name}.lock")


@contextmanager
def file_lock(path: Path, *, mode: LockMode, timeout_s: float) -> Iterator[None]:
    """Hold a lock on behalf of ``path``: many ``shared`` holders, or one ``exclusive``.

    The kernel releases it when the process ends, however it ends. The sidecar is never removed: a process
    that waits on a removed file would hold a lock that nobody else sees. Works between processes and
    between threads; it is not re-entrant.

    Raises
    ------
    LockTimeoutError
        after ``timeout_s`` seconds.
    """
    sidecar = lock_path(path)
    with storing(sidecar):
        make_folder(sidecar.parent)
        descriptor = os.open(sidecar, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + timeout_s
        while not _acquired(descriptor, mode):
            if time.monotonic() >= deadline:
                raise LockTimeoutError(
                    f"{path} is in use: no {mode} lock on {sidecar} within {timeout_s:g} s. Wait for the run "
                    f"or reader that holds it, or end it (`fuser -v {sidecar}` names it), then try again"
                )
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _acquired(descriptor: int, mode: LockMode) -> bool:
    try:
        fcntl.flock(descriptor, _OPERATION[mode] | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
