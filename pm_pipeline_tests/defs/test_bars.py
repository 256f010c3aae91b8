"""The asset of bars over the small world."""

from pm_pipeline.research.bars import BARS
from pm_pipeline.warehouse.duck import connect
from pm_pipeline_tests.workdir import Workdir


def market_keys(workdir: Workdir) -> list[str]:
    return [key for (key,) in workdir.lake.partitions("market_data.trades")]


def test_bars_hold_what_the_trades_sum_to(fetched: Workdir) -> None:
    keys = market_keys(fetched)
    assert fetched.materialise("make_bars", *keys).success
    with connect(fetched.lake, [BARS, "market_data.trades"]) as connection:
        bars, trades = (
            connection.execute(query).fetchall()
            for query in (
                f"SELECT market_key, outcome_index, sum(volume), sum(trades), count(*) > 0 FROM {BARS} "
                "GROUP BY ALL ORDER BY ALL",
                "SELECT market_key, outcome_index, sum(size), count(*), count(*) > 0 FROM market_data.trades "
                "WHERE NOT is_block GROUP BY ALL ORDER BY ALL",
            )
        )
    assert bars == trades
    assert len(bars) > 2


def test_bars_of_another_length_replace_the_former_ones(fetched: Workdir) -> None:
    key = market_keys(fetched)[0]
    config = {"ops": {"trade_bars": {"config": {"period_s": 3600}}}}
    assert fetched.materialise("make_bars", key).success
    minutes = fetched.lake.read(BARS, key).num_rows
    assert fetched.materialise("make_bars", key, run_config=config).success
    rows = fetched.lake.read(BARS, key)
    assert set(rows.column("period_s").to_pylist()) == {3600}
    assert 0 < rows.num_rows < minutes


def test_bars_of_trades_that_nobody_fetched_fail_with_what_to_do(fetched: Workdir) -> None:
    key = market_keys(fetched)[0]
    fetched.lake.delete("market_data.trades", key)
    found = fetched.materialise("make_bars", key)
    assert not found.success
    assert not fetched.lake.exists(BARS, key)
