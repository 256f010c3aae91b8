"""Run all measurements, or those named."""

import sys

from benchmarks import (
    backfill,
    bars,
    catalog,
    first_result,
    ingest,
    points,
    portfolio,
    replay,
    replay_parquet,
    replay_parquet_sweep,
    second_run,
    sweep,
)

BENCHMARKS = {
    "second_run": second_run,
    "backfill": backfill,
    "catalog": catalog,
    "first_result": first_result,
    "ingest": ingest,
    "bars": bars,
    "replay": replay,
    "replay_parquet": replay_parquet,
    "replay_parquet_sweep": replay_parquet_sweep,
    "points": points,
    "portfolio": portfolio,
    "sweep": sweep,
}


def main() -> None:
    wanted = sys.argv[1:] or list(BENCHMARKS)
    if unknown := set(wanted) - set(BENCHMARKS):
        raise SystemExit(
            f"there is no benchmark {', '.join(sorted(unknown))}; known: {', '.join(BENCHMARKS)}"
        )
    for name in wanted:
        print(f"# {name}: {(BENCHMARKS[name].__doc__ or '').splitlines()[0]}", flush=True)
        BENCHMARKS[name].main()


if __name__ == "__main__":
    main()
