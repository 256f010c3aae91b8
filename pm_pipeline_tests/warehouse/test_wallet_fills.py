"""A fill is visible from its block time plus the stated delay, not before."""

from pathlib import Path

import pytest

from pm_pipeline.markets.clock import FOREVER, SECOND
from pm_pipeline.sources.polymarket.onchain.fills import KNOWN_AFTER, to_rows
from pm_pipeline.warehouse.lake import Lake, MissingPartitionError
from pm_pipeline.warehouse.wallet_fills import FILLS, fills_known_at
from pm_pipeline_tests.sources.polymarket.chain_material import SECOND as BLOCK
from pm_pipeline_tests.sources.polymarket.chain_material import Order, events_of, match_logs
from pm_pipeline_tests.sources.polymarket.material import MARKET

MATCH = match_logs([Order("a", False, 0, 100, 30)], Order("t", True, 0, 100, 30))
KNOWN = BLOCK * SECOND + KNOWN_AFTER


@pytest.mark.parametrize(("until", "rows"), [(KNOWN - 1, 0), (KNOWN, 2), (KNOWN + 1, 2), (FOREVER, 2)])
def test_a_fill_is_known_after_its_block_and_the_delay(tmp_path: Path, until: int, rows: int) -> None:
    lake = Lake(tmp_path, durability="rename")
    lake.write(FILLS, str(MARKET.key), to_rows(events_of(MATCH), MARKET.key, "test", 0))
    assert fills_known_at(lake, MARKET.key, until).num_rows == rows


def test_fills_that_nobody_fetched_are_missing_not_none(tmp_path: Path) -> None:
    with pytest.raises(MissingPartitionError):
        fills_known_at(Lake(tmp_path, durability="rename"), MARKET.key)
