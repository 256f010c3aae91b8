"""Bars of trades: exact small cases, any cut into pieces, and a plain computation to compare with."""

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.errors import UsageError
from pm_pipeline.markets import MarketKey, Side, SideEvidence, Trade
from pm_pipeline.markets.clock import MINUTE, SECOND
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.units import MICRO
from pm_pipeline.research.bars import BARS, COLUMNS, TRADES, bars_of, write_bars
from pm_pipeline.warehouse.files import StorageError
from pm_pipeline.warehouse.lake import Lake, MissingPartitionError
from pm_pipeline.warehouse.records import trades_to_batch
from pm_pipeline.warehouse.schema import table

KEY = MarketKey(Venue.POLYMARKET, "1")
START = 1_760_000_040 * SECOND
"""A whole minute."""

FIRST = Trade(
    market_key=KEY,
    outcome_index=0,
    ts=START,
    known_at=START + SECOND,
    trade_id="a",
    ordinal=0,
    price=400_000,
    size=10 * MICRO,
    side=Side.BUY,
    side_evidence=SideEvidence.FEED,
    wallet=None,
    is_block=False,
)


def trade(after_s: float, price: int = 400_000, size: int = MICRO, **changes: Any) -> Trade:
    ts = START + int(after_s * SECOND)
    return replace(FIRST, ts=ts, known_at=ts + SECOND, price=price, size=size, **changes)


def made(
    trades: list[Trade], cuts: int = 10**9, outcomes: int = 2, period_s: int = 60
) -> list[dict[str, Any]]:
    batch = trades_to_batch(trades, ingested_at=START).select(COLUMNS)
    side = batch.schema.get_field_index("side")
    coded = batch.set_column(side, "side", batch.column("side").dictionary_encode())
    pieces = [coded.slice(at, cuts) for at in range(0, len(trades), cuts)]
    rows = [r for b in bars_of(pieces, str(KEY), outcomes=outcomes, period_s=period_s) for r in b.to_pylist()]
    return [
        {k: int(v.timestamp() * 10**6) * 1000 if k in {"ts", "known_at"} else v for k, v in row.items()}
        for row in rows
    ]


def test_a_bar_holds_open_high_low_close_and_sums_of_its_trades() -> None:
    found = made(
        [
            trade(0, 400_000, 10 * MICRO),
            trade(20, 450_000, 2 * MICRO, side=Side.SELL),
            trade(20, 380_000, 1),
            trade(59.5, 410_000, 500_000),
        ]
    )
    assert found == [
        {
            "market_key": str(KEY),
            "outcome_index": 0,
            "ts": START + MINUTE,
            "known_at": START + MINUTE + SECOND // 2,
            "ingested_at": found[0]["ingested_at"],
            "period_s": 60,
            "open": 400_000,
            "high": 450_000,
            "low": 380_000,
            "close": 410_000,
            "volume": 12_500_001,
            "notional": 4_000_000 + 900_000 + 205_000,  # the millionth of a contract is worth 0.38 millionths
            "bought": 10_500_001,
            "trades": 4,
        }
    ]


def test_a_trade_on_the_minute_belongs_to_the_bar_that_begins_there() -> None:
    assert [bar["ts"] for bar in made([trade(59.999), trade(60)])] == [START + MINUTE, START + 2 * MINUTE]


def test_a_bar_is_known_when_it_has_ended_though_its_trades_were_known_before() -> None:
    assert made([trade(5)])[0]["known_at"] == START + MINUTE


def test_minutes_without_a_trade_have_no_bar_and_outcomes_are_kept_apart() -> None:
    found = made([trade(0), trade(1, outcome_index=1), trade(600)])
    assert [(bar["outcome_index"], bar["ts"] - START) for bar in found] == [
        (0, MINUTE),
        (0, 11 * MINUTE),
        (1, MINUTE),
    ]


def test_blocks_negotiated_off_the_book_are_left_out() -> None:
    assert made([trade(0, is_block=True)]) == []
    assert made([trade(0), trade(1, 900_000, is_block=True)])[0]["high"] == 400_000


def test_what_moved_no_contract_makes_no_price() -> None:
    assert made([trade(0, size=0)]) == []
    [bar] = made([trade(0), trade(1, 900_000, 0)])
    assert (bar["high"], bar["close"], bar["trades"]) == (400_000, 400_000, 1)


@pytest.mark.parametrize(
    ("sizes", "notional"),
    [
        ([1], 0),  # 0.4 of a millionth
        ([1, 1], 1),  # 0.8
        ([5, 5, 5, 5, 5], 10),  # exact, though each alone is
        ([10**12 * MICRO], 4 * 10**11 * MICRO),  # price times size is beyond 64 bits
    ],
)
def test_notional_is_summed_exactly_and_rounded_once(sizes: list[int], notional: int) -> None:
    assert made([trade(n, 400_000, size) for n, size in enumerate(sizes)])[0]["notional"] == notional


@pytest.mark.parametrize(("size", "notional"), [(1, 0), (3, 2)])
def test_half_a_millionth_goes_to_the_even_one(size: int, notional: int) -> None:
    assert made([trade(0, 500_000, size)])[0]["notional"] == notional


def test_bars_may_have_any_length_of_at_least_a_second() -> None:
    assert len(made([trade(0), trade(1)], period_s=1)) == 2
    assert len(made([trade(0), trade(3000)], period_s=3600)) == 2  # the hour ends between them
    with pytest.raises(UsageError, match="at least one second"):
        made([trade(0)], period_s=0)


def test_a_trade_of_an_outcome_that_the_market_lacks_is_an_error() -> None:
    with pytest.raises(StorageError, match="has 2 outcomes"):
        made([trade(0, outcome_index=2)])


TRADE = st.builds(
    lambda gap, outcome, price, size, sold, block: (gap, outcome, price, size, sold, block),
    st.integers(0, 90),
    st.integers(0, 2),
    st.integers(0, MICRO),
    st.integers(1, 10**15),
    st.booleans(),
    st.sampled_from([False, False, False, True]),
)


@given(st.lists(TRADE, max_size=60), st.integers(1, 7))
def test_bars_equal_a_plain_computation_however_the_trades_are_cut(rows: list[Any], cuts: int) -> None:
    trades, after = [], 0
    for gap, outcome, price, size, sold, block in rows:
        after += gap
        trades.append(
            trade(
                after,
                price,
                size,
                outcome_index=outcome,
                side=Side.SELL if sold else Side.BUY,
                is_block=block,
            )
        )
    groups: dict[tuple[int, int], list[Trade]] = defaultdict(list)
    for each in trades:
        if not each.is_block:
            groups[each.outcome_index, each.ts // MINUTE].append(each)
    expected = [
        (
            *(outcome, (slot + 1) * MINUTE, max((slot + 1) * MINUTE, *(t.known_at for t in group))),
            *(group[0].price, max(t.price for t in group), min(t.price for t in group), group[-1].price),
            sum(t.size for t in group),
            round(Fraction(sum(t.price * t.size for t in group), MICRO)),
            sum(t.size for t in group if t.side is Side.BUY),
            len(group),
        )
        for (outcome, slot), group in sorted(groups.items())
    ]
    names = (
        *("outcome_index", "ts", "known_at", "open", "high", "low", "close"),
        *("volume", "notional", "bought", "trades"),
    )
    assert [tuple(bar[name] for name in names) for bar in made(trades, cuts, outcomes=3)] == expected


def stored(lake: Lake, trades: list[Trade]) -> None:
    lake.write(TRADES, str(KEY), pa.Table.from_batches([trades_to_batch(trades, ingested_at=START)]))


def test_bars_are_made_of_the_stored_trades_and_only_when_these_changed(tmp_path: Path) -> None:
    lake = Lake(tmp_path, durability="rename")
    stored(lake, [trade(0), trade(70, outcome_index=1, trade_id="b")])
    assert write_bars(lake, str(KEY), outcomes=2).rows == 2
    (path,) = lake.paths(BARS)
    before = path.stat().st_mtime_ns
    assert write_bars(lake, str(KEY), outcomes=2).rows == 2
    assert path.stat().st_mtime_ns == before
    stored(lake, [trade(0), trade(70, outcome_index=1, trade_id="b"), trade(130, trade_id="c")])
    assert write_bars(lake, str(KEY), outcomes=2).rows == 3
    assert write_bars(lake, str(KEY), outcomes=2, period_s=3600).rows == 2
    assert lake.read(BARS, str(KEY)).schema == table(BARS).arrow


def test_a_market_without_trades_has_an_empty_partition_and_one_never_fetched_is_an_error(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path, durability="rename")
    with pytest.raises(MissingPartitionError):
        write_bars(lake, str(KEY), outcomes=2)
    assert not lake.exists(BARS, str(KEY))
    stored(lake, [])
    assert write_bars(lake, str(KEY), outcomes=2).rows == 0


def test_bars_of_many_trades_need_no_more_than_a_piece_at_once(tmp_path: Path) -> None:
    """The trades of half a million rows come in pieces; bars are joined where pieces end within a minute."""
    lake, count = Lake(tmp_path, durability="rename"), 200_000
    schema = table(TRADES).arrow
    ts = pa.array(START // 1000 + np.arange(count) * 500_000).view(schema.field("ts").type)
    columns: dict[str, Any] = {
        "market_key": pa.repeat(str(KEY), count),
        "outcome_index": pa.array(np.zeros(count, np.int32)),
        **dict.fromkeys(("ts", "known_at", "ingested_at"), ts),
        "trade_id": pa.repeat("a", count),
        "ordinal": pa.array(np.arange(count, dtype=np.int32)),
        "price": pa.array(np.arange(count) % MICRO),
        "size": pa.repeat(MICRO, count),
        "side": pa.repeat("sell", count),
        "side_evidence": pa.repeat("feed", count),
        "wallet": pa.nulls(count, pa.string()),
        "is_block": pa.array(np.zeros(count, np.bool_)),
    }
    lake.write(TRADES, str(KEY), pa.table(columns, schema=schema))
    write_bars(lake, str(KEY), outcomes=2)
    bars = lake.read(BARS, str(KEY))
    per_minute = 120
    assert bars.num_rows == -(-count // per_minute)
    assert bars.column("trades").to_pylist()[:-1] == [per_minute] * (bars.num_rows - 1)
    assert bars.column("open").to_pylist() == list(range(0, count, per_minute))
    assert sum(bars.column("bought").to_pylist()) == 0
