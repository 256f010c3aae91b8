"""The decoder of fills: matches of every kind, and the conservation test of each."""

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket.onchain.chain import SIGNATURES
from pm_pipeline.sources.polymarket.onchain.fills import (
    FILLS,
    KNOWN_AFTER,
    Balance,
    Contract,
    Events,
    counts,
    hashes,
    require_seconds,
    to_rows,
)
from pm_pipeline.warehouse.schema import table
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.sources.polymarket.chain_material import (
    ADDRESS_OF,
    Order,
    address,
    digest,
    events_of,
    filled,
    match_logs,
    rows_of_logs,
)
from pm_pipeline_tests.sources.polymarket.material import MARKET

BUY, SELL = True, False
TAKER = "taker"

# a taker of 100 contracts of outcome 0 at 0.30, as three kinds of resting orders meet it
COMPLEMENTARY = [Order("a", SELL, 0, 60_000_000, 18_000_000), Order("b", SELL, 0, 40_000_000, 12_000_000)]
MINT = [Order("a", BUY, 1, 100_000_000, 70_000_000)]
MIXED = [Order("a", SELL, 0, 60_000_000, 18_000_000), Order("b", BUY, 1, 40_000_000, 28_000_000)]
BUYS = Order(TAKER, BUY, 0, 100_000_000, 30_000_000)
BIDS = [Order("a", BUY, 0, 60_000_000, 18_000_000), Order("b", BUY, 0, 40_000_000, 12_000_000)]
MERGE = [Order("a", SELL, 1, 100_000_000, 70_000_000)]
SELLS = Order(TAKER, SELL, 0, 100_000_000, 30_000_000)


def changed(order: Order, **by: int) -> Order:
    return Order(
        order.wallet,
        order.buys,
        order.outcome,
        order.size + by.get("size", 0),
        order.cash + by.get("cash", 0),
    )


@pytest.mark.parametrize("contract", list(Contract))
@pytest.mark.parametrize(
    ("makers", "taker", "balance"),
    [
        (COMPLEMENTARY, BUYS, Balance.EXACT),
        (MINT, BUYS, Balance.EXACT),
        (MIXED, BUYS, Balance.EXACT),
        (BIDS, SELLS, Balance.EXACT),
        (MERGE, SELLS, Balance.EXACT),
        (COMPLEMENTARY, changed(BUYS, cash=1), Balance.REFUND),
        (MERGE, changed(SELLS, size=1), Balance.REFUND),
        (COMPLEMENTARY, changed(BUYS, cash=-1), Balance.BROKEN),
        (COMPLEMENTARY, changed(BUYS, size=1), Balance.BROKEN),
        (MINT, changed(BUYS, size=-1), Balance.BROKEN),
        (MERGE, changed(SELLS, cash=1), Balance.BROKEN),
        (COMPLEMENTARY[:1], BUYS, Balance.BROKEN),
        ([], BUYS, Balance.BROKEN),
        ([Order("a", BUY, 0, 100_000_000, 30_000_000)], BUYS, Balance.BROKEN),
        ([Order("a", SELL, 1, 100_000_000, 70_000_000)], BUYS, Balance.BROKEN),
        (MIXED, None, Balance.ALONE),
    ],
)
def test_a_match_balances_to_the_unit_or_says_how_it_does_not(
    contract: Contract, makers: list[Order], taker: Order | None, balance: Balance
) -> None:
    rows = rows_of_logs(match_logs(makers, taker, contract))
    assert {row["balance"] for row in rows} == {balance.value}
    assert [row["role"] for row in rows] == ["maker"] * len(makers) + ["taker"] * (taker is not None)
    assert {row["source"] for row in rows} == {f"test:{contract}"}
    evidence = "inferred" if balance is Balance.ALONE else "onchain"
    assert {row["side_evidence"] for row in rows} == {evidence}


def test_a_row_says_what_its_wallet_did_and_when_it_could_be_known() -> None:
    maker, taker = rows_of_logs(match_logs(MINT, BUYS))
    assert maker["wallet"] == bytes.fromhex(address("a")[2:])
    assert (maker["side"], maker["outcome_index"], maker["price"]) == ("buy", 1, 700_000)
    assert (taker["side"], taker["outcome_index"], taker["price"]) == ("buy", 0, 300_000)
    assert taker["tx"] == bytes.fromhex(digest("tx")[2:])
    assert (taker["block"], taker["log_index"]) == (86_685_545, 2)
    assert (taker["known_at"] - taker["ts"]).total_seconds() * 10**9 == KNOWN_AFTER


@pytest.mark.parametrize(("makers", "taker"), [(MIXED, BUYS), (MERGE, SELLS), (BIDS, SELLS)])
def test_volume_counts_every_match_once(makers: list[Order], taker: Order) -> None:
    logs = match_logs(makers, taker) + match_logs(makers, None, tx="other")
    rows = rows_of_logs(logs)
    volume = sum(row["cash"] for row in rows if row["counts_volume"])
    assert volume == taker.cash + sum(maker.cash for maker in makers)


@pytest.mark.parametrize(
    ("contract", "order", "unit"),
    [
        (Contract.V1, BUYS, "contracts"),
        (Contract.V1_NEG_RISK, BUYS, "contracts"),
        (Contract.V1, SELLS, "dollars"),
        (Contract.V2, BUYS, "dollars"),
        (Contract.V2_NEG_RISK, SELLS, "dollars"),
    ],
)
def test_a_fee_is_in_what_the_contract_takes_it_from(contract: Contract, order: Order, unit: str) -> None:
    order = Order(order.wallet, order.buys, order.outcome, order.size, order.cash, fee=12_345)
    (row,) = rows_of_logs([filled(order, ADDRESS_OF[contract], contract)])
    assert (row["fee"], row["fee_unit"]) == (12_345, unit)


def test_two_matches_of_one_wallet_in_a_transaction_are_told_apart() -> None:
    logs = match_logs(COMPLEMENTARY, BUYS) + match_logs(BIDS, changed(SELLS, cash=1), start=10)
    found = [row["balance"] for row in rows_of_logs(logs)]
    assert found == ["exact"] * 3 + ["broken"] * 3


def test_matches_of_different_wallets_in_a_transaction_are_told_apart() -> None:
    other = Order("second", SELL, 0, 100_000_000, 30_000_000)
    rows = rows_of_logs(match_logs(COMPLEMENTARY, BUYS) + match_logs(BIDS, other, start=10))
    assert {row["balance"] for row in rows} == {"exact"}


def test_an_active_buyer_whose_log_repeats_its_dollars_gets_the_contracts_of_the_others() -> None:
    repeated = Order(TAKER, BUY, 0, 30_000_000, 30_000_000)
    rows = rows_of_logs(match_logs(COMPLEMENTARY, repeated))
    assert {row["balance"] for row in rows} == {"restated"}
    assert (rows[-1]["size"], rows[-1]["cash"], rows[-1]["price"]) == (100_000_000, 30_000_000, 300_000)
    old = rows_of_logs(match_logs(COMPLEMENTARY, repeated, Contract.V1))
    assert {row["balance"] for row in old} == {"broken"}
    assert old[-1]["size"] == 30_000_000


@pytest.mark.parametrize(
    ("cash", "size", "price"),
    [
        (30_000_000, 100_000_000, 300_000),
        (1, 3, 333_333),
        (2, 3, 666_667),
        (1, 2_000_000, 0),  # a tie goes to even
        (3, 2_000_000, 2),
        (5, 2_000_000, 2),
        (7, 0, None),
        (2**61, 2**62, 500_000),  # beyond 64 bits in between
        (0, 5, 0),
    ],
)
def test_a_price_is_cash_by_size_to_the_nearest_millionth(cash: int, size: int, price: int | None) -> None:
    for contract in (Contract.V1, Contract.V2):
        (row,) = rows_of_logs([filled(Order("a", BUY, 0, size, cash), address("x"), contract)])
        assert (row["price"], row["cash"], row["size"]) == (price, cash, size)


@st.composite
def matches(draw: st.DrawFn) -> tuple[list[Order], Order]:
    """A taker and the orders it met, with the amounts that the contract would compute."""
    buys, outcome = draw(st.booleans()), draw(st.integers(0, 1))
    scale = draw(st.sampled_from([10**6, 10**12, 2**50]))
    makers, size, cash = [], 0, 0
    for number in range(draw(st.integers(1, 6))):
        part = draw(st.integers(1, scale))
        worth = draw(st.integers(0, part))
        swaps = draw(st.booleans())
        size, cash = size + part, cash + worth
        makers.append(
            Order(
                str(number),
                buys if swaps else not buys,
                1 - outcome if swaps else outcome,
                part,
                part - worth if swaps else worth,
            )
        )
    return makers, Order(TAKER, buys, outcome, size, cash)


@given(matches(), st.sampled_from(list(Contract)))
@settings(max_examples=60, deadline=None)
def test_every_match_that_the_contract_could_make_balances(
    match: tuple[list[Order], Order], contract: Contract
) -> None:
    makers, taker = match
    rows = rows_of_logs(match_logs(makers, taker, contract))
    assert {row["balance"] for row in rows} == {"exact"}
    # dollars in and out of all wallets differ by the sets that were made or dissolved, and nothing else
    flow = sum(row["cash"] * (-1 if row["side"] == "buy" else 1) for row in rows)
    sets = {
        side: sum(row["size"] for row in rows if row["role"] == "maker" and row["side"] == side == taken)
        for side, taken in (("buy", rows[-1]["side"]), ("sell", rows[-1]["side"]))
    }
    assert flow == sets["sell"] - sets["buy"]


@given(matches(), st.sampled_from(["size", "cash"]), st.sampled_from([-1, 1]), st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_a_single_unit_that_is_missing_is_seen(
    match: tuple[list[Order], Order], what: str, by: int, at: int
) -> None:
    makers, taker = match
    orders = [*makers, taker]
    wrong = orders[min(at, len(makers))]
    if getattr(wrong, what) + by < 0:
        return
    orders[min(at, len(makers))] = changed(wrong, **{what: by})
    rows = rows_of_logs(match_logs(orders[:-1], orders[-1]))
    assert {row["balance"] for row in rows} != {"exact"}


def test_no_events_are_no_rows() -> None:
    rows = to_rows(Events.joined([]), MARKET.key, "test", 0)
    assert (rows.num_rows, rows.schema) == (0, table(FILLS).arrow)
    assert len(Events.none()) == 0


def test_rows_follow_the_declared_columns_and_order() -> None:
    events = events_of(match_logs(MIXED, BUYS, tx="b") + match_logs(MIXED, BUYS, tx="a", start=20))
    rows = to_rows(events.take(np.arange(len(events))[::-1]), MARKET.key, "test", 0)
    assert rows.schema.equals(table(FILLS).arrow)
    assert rows["log_index"].to_pylist() == sorted(rows["log_index"].to_pylist())


@pytest.mark.parametrize(
    "texts", [["0x12"], ["zz" + "1" * 40], ["0x" + "g" * 40], ["0x" + "é" * 40], ["0x" + " " * 40]]
)
def test_a_text_that_is_no_address_is_refused(texts: list[str]) -> None:
    with pytest.raises(BadResponse, match="maker"):
        hashes(texts, 20, "maker")


@pytest.mark.parametrize("text", ["-1", "1.5", "", " 1", "1_000", "٣", str(2**63), "0x1", "\ud800"])
def test_a_text_that_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(BadResponse, match="fee"):
        counts([text], "fee")


@pytest.mark.parametrize("ts", [0, 4_102_444_800, 1_777_374_040_000])
def test_a_time_that_cannot_be_is_refused(ts: int) -> None:
    with pytest.raises(BadResponse, match="seconds"):
        require_seconds(np.array([ts]), "log")


@needs_shared
def test_the_recorded_mint_of_london_balances_with_its_recorded_fee() -> None:
    path = SHARED / "samples/polymarket/complete_markets/london_27C_2026-07-12_prices_trades_fill.json"
    told = json.loads(path.read_text(), parse_float=Decimal)
    tx = told["target_trades"][0]["transactionHash"]
    legs = {
        (r["proxyWallet"], str(r["size"]), str(r["price"])): r
        for r in told["market_trades_near_fill"]
        if r["transactionHash"] == tx
    }
    orders = [_order(row, told["market"]["yes_token"]) for row in legs.values()]
    (taker,) = [order for order in orders if order.outcome == 0]
    makers = [order for order in orders if order is not taker]
    fee = int(told["known_onchain_fill"]["fee_usd"] * 10**6)
    taker = Order(taker.wallet, taker.buys, 0, taker.size, taker.cash, fee)
    rows = rows_of_logs(match_logs(makers, taker))
    assert len(makers) == 9
    assert {row["balance"] for row in rows} == {"exact"}
    assert (rows[-1]["size"], rows[-1]["cash"], rows[-1]["fee"]) == (166_680_000, 44_274_000, 1_625_690)
    assert rows[-1]["price"] == round(told["known_onchain_fill"]["raw_price"] * 10**6)


def _order(row: dict[str, Any], yes_token: str) -> Order:
    size = int(row["size"] * 10**6)
    cash = int((row["size"] * row["price"] * 10**6).to_integral_value())
    return Order(row["proxyWallet"], row["side"] == "BUY", int(row["asset"] != yes_token), size, cash)


def test_the_topics_are_the_hashes_of_their_signatures() -> None:
    for topic, signature in SIGNATURES.items():
        assert topic == "0x" + keccak256(signature.encode()).hex()


def keccak256(data: bytes) -> bytes:
    """Keccak-256 with the padding of Ethereum, after the reference description of the Keccak team."""
    mask, rate = 2**64 - 1, 136
    state = [[0] * 5 for _ in range(5)]

    def rotated(lane: int, by: int) -> int:
        by %= 64
        return ((lane << by) | (lane >> (64 - by))) & mask

    def permute() -> None:
        register = 1
        for _ in range(24):
            parity = [state[x][0] ^ state[x][1] ^ state[x][2] ^ state[x][3] ^ state[x][4] for x in range(5)]
            for x in range(5):
                mixed = parity[x - 1] ^ rotated(parity[(x + 1) % 5], 1)
                state[x] = [lane ^ mixed for lane in state[x]]
            x, y = 1, 0
            current = state[x][y]
            for step in range(24):
                x, y = y, (2 * x + 3 * y) % 5
                current, state[x][y] = state[x][y], rotated(current, (step + 1) * (step + 2) // 2)
            for y in range(5):
                row = [state[x][y] for x in range(5)]
                for x in range(5):
                    state[x][y] = row[x] ^ (~row[(x + 1) % 5] & mask & row[(x + 2) % 5])
            for bit in range(7):
                if register & 1:
                    state[0][0] ^= 1 << ((1 << bit) - 1)
                register = (register << 1) ^ ((register >> 7) * 0x171)

    padded = bytearray(data) + b"\x01"
    padded += bytes(-len(padded) % rate)
    padded[-1] |= 0x80
    for block in range(0, len(padded), rate):
        for lane in range(rate // 8):
            start = block + 8 * lane
            state[lane % 5][lane // 5] ^= int.from_bytes(padded[start : start + 8], "little")
        permute()
    return b"".join(state[lane % 5][lane // 5].to_bytes(8, "little") for lane in range(4))
