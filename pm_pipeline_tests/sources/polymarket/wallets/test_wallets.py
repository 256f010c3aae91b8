"""The clients of wallets on answers made by hand, and anything at all through their parsers."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.markets.clock import SECOND, to_nanos
from pm_pipeline.sources.errors import BadResponse, SourceError
from pm_pipeline.sources.polymarket.data import record
from pm_pipeline.sources.polymarket.onchain.fills import KNOWN_AFTER
from pm_pipeline.sources.polymarket.wallets.client import MOST_HOLDERS, SETTLED_AFTER, Reach
from pm_pipeline.sources.polymarket.wallets.records import ActivityRow, HolderGroup, LeaderRow, PositionRow
from pm_pipeline.sources.polymarket.wallets.rows import (
    MarketIds,
    activity_row,
    activity_type,
    as_table,
    is_combo,
    leader_row,
    position_row,
)
from pm_pipeline.warehouse.leaders import LEADERBOARD, Period, RankedBy
from pm_pipeline.warehouse.readings import ACTIVITY, POSITIONS
from pm_pipeline_tests.sources.polymarket.material import CONDITION, MARKET, NOW
from pm_pipeline_tests.sources.polymarket.test_samples import json_values, shaped
from pm_pipeline_tests.sources.polymarket.wallets.wallet_material import (
    COMBO,
    OTHER,
    WALLET,
    act,
    group,
    leader,
    money,
    position,
    read_wallets,
    reader_of,
    wallet_page,
    wallet_server,
)
from pm_pipeline_tests.sources.server import Server, json_response

IDS = MarketIds.of([MARKET])
KEY = str(MARKET.key)


def activity(rows: list[dict[str, Any]], most: int = 2, **options: Any) -> Any:
    server = wallet_server({"/v2/activity": rows}, most)
    return read_wallets(server, lambda reader: reader.activity(WALLET, IDS, NOW, **options))


def held(rows: list[dict[str, Any]]) -> Any:
    return read_wallets(
        wallet_server({"/v2/positions": rows}, 2), lambda reader: reader.positions(WALLET, IDS)
    )


# activity


def test_all_activity_is_read_page_by_page_with_the_same_filters_and_transfers_by_name() -> None:
    rows = [act(timestamp=1783862192 + n) for n in range(5)]
    hidden = [money("DEPOSIT"), money("WITHDRAWAL"), money("TIP")]
    server = wallet_server({"/v2/activity": [*rows, *hidden]}, 2)
    found = read_wallets(server, lambda reader: reader.activity(WALLET, IDS, NOW))
    assert sorted(found.rows["kind"].to_pylist()) == ["deposit", "tip_in", *["trade"] * 5, "withdrawal"]
    asked = [params for path, params in server.asked if path == "/v2/activity"]
    assert {(params["user"], params["start"]) for params in asked} == {(WALLET, "1")}
    assert [params["limit"] for params in asked] == ["500"] * 3 + ["4"] * 3 + ["500"] * 2 + ["2"] * 2
    named = ("DEPOSIT,WITHDRAWAL,TIP", "false")
    assert [(params.get("type"), params.get("exclude_deposits_withdrawals")) for params in asked] == [
        (None, None)
    ] * 6 + [named] * 4


def test_activity_is_taken_when_it_has_settled() -> None:
    """What is younger may be in one reading and not in the next, for the feed is cached."""
    edge = (NOW - SETTLED_AFTER) // SECOND
    assert activity([act(timestamp=edge), act(timestamp=edge + 1)]).rows.num_rows == 1


def test_activity_that_two_readings_tell_differently_is_read_again_and_at_last_refused() -> None:
    rows = [act(timestamp=1783862192 + n) for n in range(5)]

    def told(counts: list[int]) -> int:
        left = iter(counts)
        kept: list[dict[str, Any]] = []

        def answer(request: Request) -> Response:
            nonlocal kept
            if "cursor" not in request.query_params:
                kept = rows[: next(left)]
            start = int(request.query_params.get("cursor", 0))
            end = start + int(request.query_params["limit"])
            return wallet_page(kept[start:end], str(end) if end < len(kept) else None)

        server = Server({"/v2/activity": answer})
        found = read_wallets(server, lambda r: r.activity(WALLET, IDS, NOW, Reach.TRADING))
        return int(found.rows.num_rows)

    assert told([3, 5, 2, 2]) == 2
    with pytest.raises(BadResponse, match=r"no two of 4 readings .* tell the same"):
        told([1, 4, 3, 2])


def test_a_tip_says_which_way_it_went() -> None:
    rows = activity([money("TIP"), money("TIP", side="OUT")]).rows
    assert sorted(zip(rows["kind"].to_pylist(), rows["side"].to_pylist(), strict=True)) == [
        ("tip_in", None), ("tip_out", None),
    ]  # fmt: skip
    with pytest.raises(BadResponse, match="side of a tip is ''"):
        activity([money("TIP", side="")])


def test_the_cash_of_a_trade_is_what_was_paid_fees_included() -> None:
    """As captured: 22.84 contracts at 0.52 cost 12.16184 dollars, of which 0.28504 are the fee."""
    (row,) = activity(
        [act(size=Decimal("22.84"), price=Decimal("0.52"), usdc_size=Decimal("12.16184"))]
    ).rows.to_pylist()
    assert row["cash"] - row["size"] * row["price"] // 1_000_000 == 285_040


def test_a_row_is_known_after_its_block_and_names_its_market() -> None:
    (row,) = activity([act()]).rows.to_pylist()
    assert (row["market_key"], row["outcome_index"], row["condition_id"]) == (KEY, 0, CONDITION)
    assert (row["side"], row["price"], row["size"], row["cash"]) == ("buy", 250_000, 10_500_000, 2_625_000)
    assert to_nanos(row["ts"]) == 1783862192 * SECOND
    assert to_nanos(row["known_at"]) == 1783862192 * SECOND + KNOWN_AFTER


def test_what_is_about_no_market_has_no_ids_no_side_and_no_price() -> None:
    (row,) = activity([money("REWARD")]).rows.to_pylist()
    assert [row[name] for name in ("market_key", "condition_id", "token_id", "side", "price")] == [None] * 5
    assert (row["kind"], row["cash"]) == ("reward", 100_000_000)


def test_a_market_that_the_catalog_lacks_keeps_its_ids() -> None:
    unknown = "0x" + "ef" * 32
    (row,) = activity([act(condition_id=unknown, token_id="9", outcome_index=1)]).rows.to_pylist()
    assert (row["market_key"], row["condition_id"], row["token_id"], row["outcome_index"]) == (
        None, unknown, "9", 1,
    )  # fmt: skip


def test_rows_that_are_alike_are_kept_apart_by_their_ordinal() -> None:
    rows = activity([act(), act(price=Decimal("0.26")), act(), act()]).rows
    assert sorted(zip(rows["price"].to_pylist(), rows["ordinal"].to_pylist(), strict=True)) == [
        (250_000, 0), (250_000, 1), (250_000, 2), (260_000, 0),
    ]  # fmt: skip


def test_combos_are_left_out_and_counted() -> None:
    found = activity([act(), act(condition_id=COMBO)])
    assert (found.rows.num_rows, found.combos) == (1, 1)
    told = held([position(), position(condition_id=COMBO, token_id="9")])
    assert (len(told.rows), told.combos) == (1, 1)


def test_transfers_that_were_not_asked_for_stay_as_they_were() -> None:
    rows = [act(), money("DEPOSIT")]
    former = activity(rows).rows
    again = activity(rows, reach=Reach.TRADING, former=former)
    assert sorted(again.rows["kind"].to_pylist()) == ["deposit", "trade"]
    assert activity(rows, reach=Reach.TRADING).rows["kind"].to_pylist() == ["trade"]


def test_transfers_that_the_feed_shows_unasked_are_not_read_twice() -> None:
    def answer(request: Any) -> Any:
        kind = request.query_params.get("type")
        rows = [act(), money("DEPOSIT")] if kind is None else [money(each) for each in kind.split(",")]
        return wallet_page(rows)

    server = Server({"/v2/activity": answer})
    found = read_wallets(server, lambda reader: reader.activity(WALLET, IDS, NOW))
    assert sorted(found.rows["kind"].to_pylist()) == ["deposit", "tip_in", "trade", "withdrawal"]


def test_a_filter_that_the_venue_ignores_is_noticed() -> None:
    server = Server({"/v2/activity": lambda _: wallet_page([act()])})
    with pytest.raises(BadResponse, match="asked for DEPOSIT,WITHDRAWAL,TIP, got TRADE"):
        read_wallets(server, lambda reader: reader.activity(WALLET, IDS, NOW))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "AIRDROP"}, "type 'AIRDROP' is unknown; known: TRADE, SPLIT"),
        ({"proxy_wallet": OTHER}, f"asked for {WALLET}, got {OTHER}"),
        ({"proxy_wallet": "0x1"}, "not the address of a wallet"),
        ({"side": "HOLD"}, "side of a trade is 'HOLD'"),
        ({"token_id": ""}, "lacks condition_id or token_id"),
        ({"price": Decimal("1.5")}, "price is 1.5"),
        ({"size": -1}, "size is -1, which is negative"),
        ({"usdc_size": -1}, "usdc_size is -1"),
        ({"timestamp": 1783862192000}, "timestamp"),
        ({"outcome_index": 1000}, "outcome_index is 1000"),
        ({"condition_id": "ab" * 33}, "condition_id is"),
        ({"condition_id": "0x" + "ab" * 33}, "condition_id is"),
        ({"transaction_hash": None}, r"\$\.transaction_hash"),
    ],
)
def test_impossible_activity_is_refused_by_the_name_of_the_field(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadResponse, match=words):
        activity([act(**change)])


# positions


def test_positions_of_every_status_are_asked_for_with_their_dust() -> None:
    rows = [position(status=status, token_id=str(n)) for n, status in enumerate(("OPEN", "CLOSED", "OPEN"))]
    server = wallet_server({"/v2/positions": rows}, 1)
    found = read_wallets(server, lambda reader: reader.positions(WALLET, IDS))
    assert sorted((row["token_id"], row["status"]) for row in found.rows) == [
        ("0", "open"), ("1", "closed"), ("2", "open"),
    ]  # fmt: skip
    asked = [params for path, params in server.asked if path == "/v2/positions"]
    assert {(params["limit"], params["user"]) for params in asked} == {("500", WALLET)}
    names = ("status", "filter_type", "filter_amount", "include_archived")
    assert {tuple(params.get(name) for name in names) for params in asked} == {
        ("OPEN", "TOKENS", "0.000001", "true"), ("CLOSED", None, None, None),
    }  # fmt: skip


def test_what_is_left_and_what_was_ever_bought_are_two_things() -> None:
    (row,) = held([position()]).rows
    assert (row["size"], row["bought"], row["avg_price"], row["realised_pnl"]) == (
        28_090_000, 30_000_000, 669_900, -1_250_000,
    )  # fmt: skip
    assert (row["market_key"], row["outcome_index"]) == (KEY, 0)


def test_an_unlabelled_outcome_of_an_unknown_market_is_null() -> None:
    (row,) = held([position(token_id="9", condition_id="0x" + "ef" * 32)]).rows
    assert (row["market_key"], row["outcome_index"]) == (None, None)


def test_a_position_told_twice_counts_once_as_it_was_last() -> None:
    server = Server(
        {
            "/v2/positions": lambda request: wallet_page(
                [position(current_size=5 if request.query_params["status"] == "CLOSED" else 9)]
            )
        }
    )
    found = read_wallets(server, lambda reader: reader.positions(WALLET, IDS))
    assert [row["size"] for row in found.rows] == [5_000_000]


def test_one_condition_tells_of_all_its_wallets() -> None:
    rows = [position(), position(proxy_wallet=OTHER)]
    server = wallet_server({"/v2/positions": rows}, 1)
    found = read_wallets(server, lambda reader: reader.positions_in(CONDITION, IDS))
    assert sorted(row["wallet"] for row in found.rows) == [WALLET, OTHER]
    with pytest.raises(BadResponse, match="asked for 0x12"):
        read_wallets(server, lambda reader: reader.positions_in("0x12", IDS))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "LIMBO"}, "status 'LIMBO' is unknown; known: OPEN"),
        ({"proxy_wallet": OTHER}, "asked for"),
        ({"current_size": -1}, "current_size is -1"),
        ({"avg_price": 2}, "avg_price is 2"),
        ({"realized_pnl": "much"}, "realized_pnl"),
    ],
)
def test_an_impossible_position_is_refused(change: dict[str, Any], words: str) -> None:
    server = Server({"/v2/positions": lambda _: wallet_page([position(**change)])})
    with pytest.raises(BadResponse, match=words):
        read_wallets(server, lambda reader: reader.positions(WALLET, IDS))


# holders


def holders(*groups: dict[str, Any]) -> Any:
    server = wallet_server({"/v2/holders": groups})
    return read_wallets(server, lambda reader: reader.holders(MARKET))


def test_holders_are_ranked_by_what_they_hold() -> None:
    found = holders(group("111", [(OTHER, 1), (WALLET, Decimal("2.5"))]), group("222", [(WALLET, 3)]))
    assert [(r["outcome_index"], r["rank"], r["wallet"], r["size"]) for r in found.rows] == [
        (0, 1, WALLET, 2_500_000), (0, 2, OTHER, 1_000_000), (1, 1, WALLET, 3_000_000),
    ]  # fmt: skip
    assert found.cut == ()


def test_a_list_as_long_as_the_venue_shows_is_said_to_be_cut() -> None:
    wallets = [(f"0x{n:040x}", n) for n in range(1, MOST_HOLDERS + 1)]
    found = holders(group("111", wallets), group("222", wallets[1:]))
    assert found.cut == (0,)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (group("333", [(WALLET, 1)]), "token_id 333 is no outcome"),
        (group("111", [(WALLET, 1), (WALLET, 2)]), "holds outcome 0 of polymarket:654414 twice"),
        (group("111", [("0x1", 1)]), "not the address"),
        (group("111", [(WALLET, -1)]), "amount is -1"),
        ({"token_id": "111"}, "missing required field `holders`"),
    ],
)
def test_impossible_holders_are_refused(rows: dict[str, Any], words: str) -> None:
    with pytest.raises(BadResponse, match=words):
        holders(rows)


# leaderboard


def leaders(rows: list[dict[str, Any]], top: int = 10, by: RankedBy = RankedBy.PNL, most: int = 500) -> Any:
    server = wallet_server({"/v2/leaderboard": rows}, most)
    found = read_wallets(server, lambda reader: reader.leaderboard(Period.WEEK, by, top))
    return found, [params for path, params in server.asked if path == "/v2/leaderboard"]


def test_leaders_are_read_up_to_the_place_that_is_asked_for() -> None:
    rows = [leader(n, f"0x{n:040x}") for n in range(1, 9)]
    found, asked = leaders(rows, top=5, most=2)
    assert [row["rank"] for row in found] == [1, 2, 3, 4, 5]
    assert {(params["time_period"], params["sort_by"]) for params in asked} == {("week", "PNL")}
    assert len(asked) == 3
    assert (found[0]["pnl"], found[0]["volume"], found[0]["period"]) == (5_500_000, 10_000_000, "week")


def test_a_list_may_be_short() -> None:
    found, _ = leaders([leader(1), leader(2, OTHER)])
    assert [(row["rank"], row["wallet"]) for row in found] == [(1, WALLET), (2, OTHER)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([leader(2)], "ranks are missing"),
        ([leader(1), leader(1, OTHER)], "two wallets have rank 1"),
        ([leader(1), leader(2)], "a wallet has two ranks"),
        ([leader("first")], "rank"),
        ([leader(0)], "rank is 0"),
        ([leader(-1)], "rank is -1"),
        ([leader(1, pnl=None)], "pnl"),
        ([leader(1, "0x1")], "user_id: "),
        ([leader(1, volume=-2)], "volume is -2"),
    ],
)
def test_an_impossible_list_is_refused(rows: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(BadResponse, match=words):
        leaders(rows)


# the envelope, and the retired version


@pytest.mark.parametrize("path", ["/v2/activity", "/v2/positions", "/v2/holders", "/v2/leaderboard"])
def test_an_envelope_that_contradicts_itself_is_refused_on_every_path(path: str) -> None:
    body = {"data": [], "pagination": {"has_more": True, "next_cursor": None}}
    server = Server({path: json_response(body)})
    reads = {
        "/v2/activity": lambda r: r.activity(WALLET, IDS, NOW),
        "/v2/positions": lambda r: r.positions(WALLET, IDS),
        "/v2/holders": lambda r: r.holders(MARKET),
        "/v2/leaderboard": lambda r: r.leaderboard(Period.DAY, RankedBy.PNL, 5),
    }
    with pytest.raises(BadResponse, match="has_more is True"):
        read_wallets(server, reads[path])


@pytest.mark.parametrize("kind", [ActivityRow, PositionRow, HolderGroup, LeaderRow])
def test_a_row_of_the_retired_version_is_refused_by_that_name(kind: type) -> None:
    with pytest.raises(BadResponse, match=r"retired Data API v1 \(asset, proxyWallet\)"):
        record({"proxyWallet": WALLET, "asset": "1"}, kind, "/x")


def test_the_bare_list_of_the_retired_version_is_refused() -> None:
    server = Server({"/v2/positions": json_response([{"proxyWallet": WALLET}])})
    with pytest.raises(BadResponse, match="without the list 'data'"):
        read_wallets(server, lambda reader: reader.positions(WALLET, IDS))


def test_the_moment_is_that_of_the_answer() -> None:
    assert asyncio.run(_moment()) == NOW


async def _moment() -> int:
    async with reader_of(wallet_server({})) as reader:
        return await reader.moment()


# anything at all


def rows_of(name: str, row: dict[str, Any]) -> pa.Table:
    return as_table(name, [row], ts=0, known_at=0, ingested_at=0, ordinal=0)


@given(shaped(act()) | shaped(money("REWARD")) | json_values)
def test_any_json_is_an_act_or_a_source_error(value: Any) -> None:
    with suppress(SourceError):
        found = record(value, ActivityRow, "/a")
        kind = activity_type(found.type)
        if not is_combo(found.condition_id or None, "/a"):
            row = activity_row(found, kind, WALLET, IDS)
            assert row["size"] >= 0
            assert row["price"] is None or 0 <= row["price"] <= 1_000_000
            assert (kind == "TRADE") == (row["side"] is not None)
            times = ("ts", "known_at")
            assert rows_of(ACTIVITY, {name: row[name] for name in row if name not in times}).num_rows == 1


@given(shaped(position()) | json_values)
def test_any_json_is_a_position_or_a_source_error(value: Any) -> None:
    with suppress(SourceError):
        row = position_row(record(value, PositionRow, "/p"), WALLET, IDS)
        assert row["size"] >= 0
        assert 0 <= row["avg_price"] <= 1_000_000
        assert rows_of(POSITIONS, row).num_rows == 1


@given(shaped(leader(1)) | json_values, st.sampled_from(list(RankedBy)))
def test_any_json_is_a_leader_or_a_source_error(value: Any, by: RankedBy) -> None:
    with suppress(SourceError):
        row = leader_row(record(value, LeaderRow, "/l"), Period.ALL, by)
        assert row["rank"] >= 1
        assert row[by.value] is not None
        assert rows_of(LEADERBOARD, row).num_rows == 1


@given(st.lists(shaped(group("111", [(WALLET, 1)])) | json_values, max_size=3))
def test_any_json_is_a_list_of_holders_or_a_source_error(groups: Any) -> None:
    server = Server({"/v2/holders": lambda _: wallet_page(groups)})
    with suppress(SourceError):
        found = read_wallets(server, lambda reader: reader.holders(replace(MARKET)))
        assert all(row["size"] >= 0 and row["rank"] >= 1 for row in found.rows)
