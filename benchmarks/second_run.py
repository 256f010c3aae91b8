"""``make backtest`` on the sandbox: first run, second run, and whose code the second spends its time in."""

import sys
import tempfile
import threading
from collections import Counter
from types import FrameType

from benchmarks.measure import run

EVERY_S = 0.005
OWNERS = {
    "/pm_pipeline/": "pm_pipeline",
    "/dagster": "dagster",
    "/sqlalchemy/": "dagster",
    "/alembic/": "dagster",
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {"PM_DATA_DIR": folder}
        for name in ("first run", "second run", "third run"):
            used = run(["-m", "pm_pipeline", "backtest"], environment)
            print(
                f"{name:<12} wall {used.wall_s:6.1f} s  cpu {used.cpu_s:6.1f} s  peak {used.peak_mb:5.0f} MB"
            )
        run(["-m", "benchmarks.second_run", "shares"], environment)


def shares() -> None:
    """Run the job in this process and sample whose frame is innermost."""
    found: Counter[str] = Counter()
    done = threading.Event()
    watched = threading.get_ident()

    def sample() -> None:
        while not done.wait(EVERY_S):
            found[_owner(sys._current_frames().get(watched))] += 1

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    from pm_pipeline.cli import main as bt

    bt(["backtest"], standalone_mode=False)
    done.set()
    total = found.total()
    for owner, count in found.most_common():
        print(f"  {owner:<12} {count / total:6.1%} of {total * EVERY_S:.1f} s", file=sys.stderr)


def _owner(frame: FrameType | None) -> str:
    """The first of our owners from the innermost frame outwards: libraries count for whoever called them."""
    while frame is not None:
        for part, owner in OWNERS.items():
            if part in frame.f_code.co_filename:
                return owner
        frame = frame.f_back
    return "start-up"


if __name__ == "__main__":
    shares() if sys.argv[1:] == ["shares"] else main()
