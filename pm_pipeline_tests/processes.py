"""The project's commands as real processes: in a scratch folder, on loopback, and gone when the test is."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

ROOT: Final = Path(__file__).resolve().parents[1]
"""The repository."""

BIN: Final = Path(sys.executable).parent
"""Where the commands of this virtual environment lie."""

SMALL_WORLD: Final = "pm_pipeline_tests.small_world:load_world"

T = TypeVar("T")


def scratch_environment(folder: Path) -> dict[str, str]:
    """The environment of a process that keeps its data and its Dagster home in ``folder``."""
    home = folder / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PM_", "DAGSTER_"))}
    return kept | {
        "PM_DATA_DIR": str(folder / "data"),
        "PM_SANDBOX_WORLD": SMALL_WORLD,
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": str(ROOT),
    }


@contextmanager
def running(
    command: Sequence[str], environment: dict[str, str], log: Path, cwd: Path = ROOT
) -> Iterator[None]:
    """Keep ``command`` running while the context lasts; end it and all that it started."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=environment, cwd=cwd, stdout=out, stderr=out, start_new_session=True
        )
        try:
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=15)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children share its group
            process.wait()


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(what: str, probe: Callable[[], T | None], seconds: float = 120) -> T:
    """What ``probe`` finds, asked twice a second until it finds something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := probe():
            return found
        time.sleep(0.5)
    raise TimeoutError(f"{what}: not within {seconds:g} seconds")
