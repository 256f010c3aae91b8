"""Logs of the exchanges: what is read of them, and what is refused."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pm_pipeline.markets.market import Market
from pm_pipeline.sources.errors import BadResponse, SourceError
from pm_pipeline.sources.polymarket.onchain.chain import (
    FILLED_V1,
    FILLED_V2,
    MATCHED_V2,
    Log,
    in_order,
    of_exchanges,
    quantity,
    require_matched,
    to_events,
    tokens_of,
    wanted,
)
from pm_pipeline.sources.polymarket.onchain.fills import Contract, to_rows
from pm_pipeline.sources.wire import convert
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.sources.polymarket.chain_material import (
    ADDRESS_OF,
    SECOND,
    Order,
    address,
    digest,
    events_of,
    filled,
    match_logs,
)
from pm_pipeline_tests.sources.polymarket.material import MARKET

BUY, SELL = True, False
LOGS = match_logs(
    [Order("a", SELL, 0, 60_000_000, 18_000_000), Order("b", BUY, 1, 40_000_000, 28_000_000)],
    Order("t", BUY, 0, 100_000_000, 30_000_000),
)
FILL = filled(Order("a", BUY, 0, 10, 5), address("x"))
SAMPLE = SHARED / "samples/polymarket/onchain/v2_order_filled_logs_2026-05-10.json"


def with_tokens(first: str, second: str) -> Market:
    pairs = zip(MARKET.instruments, (first, second), strict=True)
    return replace(MARKET, instruments=tuple(replace(i, token_id=token) for i, token in pairs))


def without(log: Log, **changes: Any) -> Log:
    return msgspec.structs.replace(log, **changes)


@needs_shared
def test_the_recorded_logs_of_a_transaction_read_as_the_explorer_shows_them() -> None:
    told = json.loads(SAMPLE.read_text())
    logs = [convert(log, Log, "log") for log in told["logs"]]
    tokens = [str(int(log.data[66:130], 16)) for log in logs]
    market = with_tokens(*tokens)
    events = to_events(in_order(logs), tokens_of([market]))
    first, second = to_rows(events, market.key, "rpc", 0).to_pylist()
    assert (first["side"], first["outcome_index"], first["price"], first["size"]) == (
        "buy",
        0,
        670_000,
        1_840_000,
    )
    assert (second["side"], second["outcome_index"], second["price"]) == ("sell", 1, 330_000)
    assert (first["block"], first["log_index"], second["log_index"]) == (86_685_545, 0x169, 0x16B)
    assert first["ts"].isoformat() == "2026-05-10T18:56:52+00:00"
    assert first["wallet"].hex() == "43b3467e41f2f8d1da53fe712685b20095bc0ccc"
    assert {row["source"] for row in (first, second)} == {"rpc:v2"}
    # the recording holds only the resting orders, so nobody can say that it is a whole match
    assert {(row["balance"], row["side_evidence"]) for row in (first, second)} == {("alone", "inferred")}


def test_logs_come_in_the_order_of_the_chain() -> None:
    assert in_order(LOGS[::-1]) == LOGS


@pytest.mark.parametrize(
    ("logs", "reason"),
    [
        ([FILL, FILL], "two logs of number 0"),
        ([without(FILL, removed=True)], "reorganisation"),
        ([without(FILL, block_number="12")], "blockNumber"),
        ([without(FILL, log_index="0xzz")], "logIndex"),
        ([without(FILL, log_index="0x")], "logIndex"),
    ],
)
def test_logs_that_have_no_place_are_refused(logs: list[Log], reason: str) -> None:
    with pytest.raises(BadResponse, match=reason):
        in_order(logs)


@pytest.mark.parametrize("text", ["0x1_0", "0x" + "f" * 16, "0x+1", "10", "0x٣"])
def test_a_quantity_is_hexadecimal(text: str) -> None:
    with pytest.raises(BadResponse, match="number"):
        quantity(text, "number")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"topics": FILL.topics[:3]}, "topics"),
        ({"data": FILL.data[:-64]}, "data"),
        ({"data": FILL.data[:-1] + "g"}, "data"),
        ({"data": "0x" + "f" * 64 + FILL.data[66:]}, "side does not fit"),
        ({"data": "0x" + f"{2:064x}" + FILL.data[66:]}, "side is 2"),
        ({"data": FILL.data[:130] + "f" * 64 + FILL.data[194:]}, "makerAmountFilled"),
        ({"data": FILL.data[:130] + f"{2**63:064x}" + FILL.data[194:]}, "makerAmountFilled"),
        ({"topics": [*FILL.topics[:2], digest("no address"), FILL.topics[3]]}, "no address"),
        ({"transaction_hash": "0x12"}, "transactionHash"),
        ({"block_timestamp": None}, "time of block"),
        ({"block_timestamp": "0x0"}, "time of block"),
        ({"block_timestamp": "0xffffffffff"}, "seconds since 1970"),
        ({"log_index": "0x80000000"}, "logIndex"),
    ],
)
def test_a_bad_field_is_refused_by_its_name(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadResponse, match=reason):
        to_events([without(FILL, **change)], tokens_of([MARKET]))


@pytest.mark.parametrize(("gave", "got"), [(0, 0), (111, 222)])
def test_an_order_of_v1_exchanges_dollars_for_a_token(gave: int, got: int) -> None:
    log = filled(Order("a", BUY, 0, 10, 5), address("x"), Contract.V1)
    data = f"0x{gave:064x}{got:064x}" + log.data[130:]
    with pytest.raises(BadResponse, match="dollars"):
        to_events([without(log, data=data)], tokens_of([MARKET]))


def test_a_token_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(BadResponse, match="not asked for"):
        to_events(LOGS[:1], tokens_of([with_tokens("7", "8")]))


def test_times_may_come_from_the_blocks() -> None:
    log = filled(Order("a", BUY, 0, 10, 5), address("x"), second=None)
    events = to_events([log], tokens_of([MARKET]), {86_685_545: SECOND})
    assert events.ts.tolist() == [SECOND]


def test_only_the_logs_of_the_exchanges_and_the_wanted_tokens_are_picked() -> None:
    foreign = without(FILL, address=address("another contract"))
    other = without(FILL, topics=[digest("Transfer(...)")])
    bare = without(FILL, topics=[])
    fills, matches = of_exchanges([*LOGS, foreign, other, bare])
    assert (fills, matches) == (LOGS[:3], LOGS[3:])
    assert wanted(LOGS, tokens_of([MARKET])) == LOGS
    assert wanted(LOGS, tokens_of([with_tokens("7", "8")])) == []
    sold = filled(Order("a", SELL, 1, 10, 5), address("x"), Contract.V1)
    assert wanted([sold], tokens_of([MARKET])) == [sold]


@pytest.mark.parametrize("missing", [2, 3])
def test_a_match_without_its_other_log_is_refused(missing: int) -> None:
    logs = LOGS[:missing] + LOGS[missing + 1 :]
    fills, matches = of_exchanges(logs)
    with pytest.raises(BadResponse, match="logs are missing"):
        require_matched(fills, matches)
    require_matched(*of_exchanges(LOGS))


def test_a_log_without_its_topics_is_refused() -> None:
    with pytest.raises(BadResponse, match="topics"):
        require_matched([], [without(LOGS[3], topics=[MATCHED_V2])])


@pytest.mark.parametrize("token", [None, "", "abc", "-1", str(2**256)])
def test_a_market_without_a_token_cannot_be_looked_for(token: str | None) -> None:
    pairs = tuple(replace(i, token_id=token) for i in MARKET.instruments)
    with pytest.raises(SourceError, match="token id"):
        tokens_of([replace(MARKET, instruments=pairs)])


def test_markets_are_numbered_by_their_place() -> None:
    events = to_events(LOGS[:3], tokens_of([with_tokens("7", "8"), MARKET]))
    assert events.market.tolist() == [1, 1, 1]
    assert events.outcome.tolist() == [0, 1, 0]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
PLAIN: dict[str, Any] = msgspec.to_builtins(FILL)
nearly = st.fixed_dictionaries(
    {name: st.just(value) | st.text("0x19afAF ", max_size=70) | anything for name, value in PLAIN.items()}
    | {
        "topics": st.just(PLAIN["topics"])
        | st.lists(st.sampled_from([FILLED_V1, FILLED_V2, *PLAIN["topics"]]), max_size=5)
        | st.lists(st.text("0xf", max_size=66), max_size=4),
        "address": st.sampled_from([*ADDRESS_OF.values(), "0x1", ""]),
    }
)


@given(st.lists(nearly | anything, max_size=3))
@settings(max_examples=150, deadline=None)
def test_any_json_is_rows_or_an_error_of_the_source(found: list[Any]) -> None:
    tokens = tokens_of([MARKET])
    try:
        logs = in_order(convert(found, list[Log], "logs"))
        fills, matches = of_exchanges(logs)
        require_matched(fills, matches)
        rows = to_rows(to_events(wanted(fills, tokens), tokens), MARKET.key, "test", 0)
    except SourceError:
        return
    rows.validate(full=True)
    assert all(row["size"] >= 0 and row["cash"] >= 0 for row in rows.to_pylist())


@given(st.binary(max_size=64), st.integers(0, 4))
@settings(max_examples=100, deadline=None)
def test_any_data_of_a_fill_is_a_row_or_an_error_of_the_source(noise: bytes, at: int) -> None:
    raw = bytearray.fromhex(FILL.data[2:])
    raw[at * 32 : at * 32 + len(noise)] = noise
    try:
        events = events_of([without(FILL, data="0x" + raw[:224].hex())])
    except SourceError:
        return
    to_rows(events, MARKET.key, "test", 0).validate(full=True)
