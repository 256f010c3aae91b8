"""One backfill run over recorded markets: markets per second and peak memory, and how both grow.

Needs the recorded set ``polymarket_weather_2026``: its folder's parent in ``PM_RECORDED_DIR``, or beside the
repository.
"""

import json
import os
import tempfile
from pathlib import Path

from benchmarks.measure import run

SIZES = (250, 500, 1000, 2200)
RECORDED = Path(os.environ.get("PM_RECORDED_DIR", "../shared/recorded")).resolve()
SERIES = ["nyc-daily-weather", "london-daily-weather"]
CLOSES_TO = "2026-06-15"
"""The raw days that follow were recorded without their end."""


def main() -> None:
    if not (RECORDED / "polymarket_weather_2026").is_dir():
        raise SystemExit(f"{RECORDED} has no polymarket_weather_2026; set PM_RECORDED_DIR")
    print("markets   wall s    cpu s   markets/s   cpu ms/market   peak MB")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            asked = Path(folder) / "asked.yaml"
            universe = [{"venue": "polymarket", "series": SERIES, "closes_to": CLOSES_TO, "limit": size}]
            asked.write_text(json.dumps({"universe": universe, "strategies": {"favourite": {}}}))
            environment = {
                "PM_DATA_DIR": folder,
                "PM_SANDBOX_WORLD": "pm_pipeline_tests.recorded:load_world",
                "PM_RECORDED_DIR": str(RECORDED),
            }
            used = run(["-m", "pm_pipeline", "backtest", "-c", str(asked)], environment)
        print(
            f"{size:7d} {used.wall_s:8.1f} {used.cpu_s:8.1f} {size / used.wall_s:11.1f} "
            f"{1000 * used.cpu_s / size:15.1f} {used.peak_mb:9.0f}"
        )


if __name__ == "__main__":
    main()
