"""On-chain fills through the as-of view: known after their block and the delay, with their wallets."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.defs.backtest.versions import MARKET_DATA, signals_version
from pm_pipeline.markets.clock import FOREVER, SECOND
from pm_pipeline.sources.polymarket.onchain.fills import KNOWN_AFTER, to_rows
from pm_pipeline.warehouse.arrays import BUY, MAKER, SELL, TAKER, FillArrays
from pm_pipeline.warehouse.asof import AsOfView, MarketData, data_shown_by, open_view, view_of
from pm_pipeline.warehouse.wallet_fills import FILLS
from pm_pipeline_tests.sources.polymarket.chain_material import SECOND as BLOCK
from pm_pipeline_tests.sources.polymarket.chain_material import Order, address, events_of, match_logs
from pm_pipeline_tests.sources.polymarket.material import MARKET
from pm_pipeline_tests.warehouse.builders import lake_at, prices

MATCH = match_logs([Order("a", False, 0, 10**8, 30_000_000)], Order("t", True, 0, 10**8, 30_000_000))
ROWS = to_rows(events_of(MATCH), MARKET.key, "test", 0)
KNOWN = BLOCK * SECOND + KNOWN_AFTER
KEY = str(MARKET.key)


def fills_until(until: int) -> FillArrays:
    return view_of(MarketData.of_tables(MARKET, {FILLS: ROWS}), until).fills()


@pytest.mark.parametrize(("until", "rows"), [(KNOWN - 1, 0), (KNOWN, 2), (FOREVER, 2)])
def test_a_view_shows_fills_from_their_block_and_the_delay_on(until: int, rows: int) -> None:
    found = fills_until(until)
    assert len(found) == len(found.wallet) == len(found.price) == rows


def test_a_fill_says_who_did_what_in_which_role() -> None:
    found = fills_until(FOREVER)
    by_role = {int(role): n for n, role in enumerate(found.role)}
    maker, taker = by_role[MAKER], by_role[TAKER]
    assert [found.wallet[maker], found.wallet[taker]] == [address("a"), address("t")]
    assert [found.side[maker], found.side[taker]] == [SELL, BUY]
    assert found.price.tolist() == [300_000, 300_000]
    assert found.size[found.counts_volume].tolist() == [10**8]
    assert set((found.known_at - found.ts).tolist()) == {KNOWN_AFTER}
    with pytest.raises(ValueError, match="read-only"):
        found.price[0] = 1


def test_a_lake_without_fills_shows_none_and_one_with_fills_alone_opens(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.write("market_data.prices", KEY, prices([{"ts": 1, "mid": 1}], KEY))
    assert len(open_view(lake, MARKET).fills()) == 0
    lake.write(FILLS, KEY, ROWS)
    assert len(open_view(lake, MARKET).fills()) == 2
    lake.delete("market_data.prices", KEY)
    assert len(open_view(lake, MARKET, KNOWN).fills()) == 2


def test_results_are_stale_when_fills_change(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.write("market_data.prices", KEY, prices([{"ts": 1, "mid": 1}], KEY))
    assert FILLS in MARKET_DATA
    before = signals_version(lake, MARKET, "s")
    lake.write(FILLS, KEY, ROWS)
    assert signals_version(lake, MARKET, "s") != before


def test_the_data_that_a_view_shows_hold_its_fills_only() -> None:
    whole = view_of(MarketData.of_tables(MARKET, {FILLS: ROWS}))
    assert len(data_shown_by(whole.as_of(KNOWN - 1)).fills) == 0
    assert len(data_shown_by(whole.as_of(KNOWN)).fills) == 2


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc")), min_size=1, max_size=8),
    st.integers(-1, 60),
    st.integers(-1, 60),
)
def test_no_fill_is_seen_before_it_was_known_and_views_nest(
    told: list[tuple[int, str]], early: int, late: int
) -> None:
    events = [
        events_of(
            match_logs([Order(who, False, 0, 10, 3)], Order("t", True, 0, 10, 3)),
        )
        for _, who in told
    ]
    for found, (second, _) in zip(events, told, strict=True):
        found.ts[:] = BLOCK + second
    rows = [to_rows(found, MARKET.key, "test", 0) for found in events]
    table = pa.concat_tables(rows)
    view: AsOfView = view_of(MarketData.of_tables(MARKET, {FILLS: table}))
    low, high = sorted((BLOCK + early, BLOCK + late))
    first, second_ = view.as_of(low * SECOND).fills(), view.as_of(high * SECOND).fills()
    for until, seen in ((low, first), (high, second_)):
        assert (seen.known_at <= until * SECOND).all()
        assert len(seen) == 2 * sum(BLOCK + s + 5 <= until for s, _ in told)
    assert np.array_equal(first.wallet, second_.wallet[: len(first)])
