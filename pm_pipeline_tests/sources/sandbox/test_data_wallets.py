"""What the sandbox tells of wallets follows from its trades: nothing is made up, nothing lost."""

from collections import Counter
from typing import Any

import pytest

from pm_pipeline.markets.clock import DAY, SECOND
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.sandbox import World, WorldMarket
from pm_pipeline.sources.sandbox.data_trades import MAKERS, Row
from pm_pipeline.sources.sandbox.wallet_ledger import hands, legs, standings
from pm_pipeline_tests.sources.sandbox.conftest import DATA, Get, token
from pm_pipeline_tests.sources.sandbox.test_data_v2 import crawl

DUST = {"filter_amount": "0.000001"}


def micro(value: float) -> int:
    return round(value * MICRO)


def traded(world: World, *, resolved: bool) -> WorldMarket:
    return next(
        m
        for m in world.polymarket.values()
        if (m.resolution.payouts is not None) is resolved and len(m.trades().ts) > 100
    )


def takers(world: World) -> list[str]:
    counts = Counter(str(w) for m in world.polymarket.values() for w in m.trades().wallet)
    return [wallet for wallet, _ in counts.most_common(3)]


def test_activity_has_every_trade_of_a_wallet_once(get: Get, world: World) -> None:
    for wallet in (takers(world)[0], MAKERS[1]):
        rows = crawl(get, "/v2/activity", user=wallet, type="TRADE", start=1, limit=500)
        told = Counter((r["transaction_hash"], r["token_id"], r["side"], micro(r["size"])) for r in rows)
        maker = {"taker_only": "false"} if wallet in MAKERS else {}
        feed = crawl(get, "/v2/trades", user=wallet, start=1, limit=1000, **DUST, **maker)
        sold = Counter((r["transaction_hash"], r["token_id"], r["side"], micro(r["size"])) for r in feed)
        assert told == +Counter({key: n for key, n in sold.items() if key[3]})
        assert sum(told.values()) > 20
        stamps = [row["timestamp"] for row in rows]
        assert stamps == sorted(stamps, reverse=True)


def test_tips_come_only_when_they_are_named_and_transfers_only_when_they_are_not_excluded(
    get: Get, world: World
) -> None:
    asked = {"user": takers(world)[0], "start": 1, "limit": 500}
    shown = {row["type"] for row in crawl(get, "/v2/activity", **asked)}
    assert "TRADE" in shown
    assert not shown & {"DEPOSIT", "WITHDRAWAL", "TIP"}
    assert crawl(get, "/v2/activity", type="DEPOSIT,WITHDRAWAL", **asked) == []
    let = {"exclude_deposits_withdrawals": "false", **asked}
    named = crawl(get, "/v2/activity", type="DEPOSIT,WITHDRAWAL", **let)
    assert [row["type"] for row in named] == ["WITHDRAWAL", "DEPOSIT"]
    everything = {row["type"] for row in crawl(get, "/v2/activity", **let)}
    assert everything == shown | {"DEPOSIT", "WITHDRAWAL"}
    assert [row["side"] for row in crawl(get, "/v2/activity", type="TIP", **asked)] == ["OUT", "IN"]


def test_what_a_taker_paid_or_got_includes_his_fee_and_a_makers_does_not(get: Get, world: World) -> None:
    for wallet, fees in ((takers(world)[0], True), (MAKERS[1], False)):
        found = []
        for row in crawl(get, "/v2/activity", user=wallet, type="TRADE", start=1, limit=500):
            more = micro(row["usdc_size"]) - micro(row["size"]) * micro(row["price"]) // MICRO
            found.append(more if row["side"] == "BUY" else -more)
        assert min(found) >= 0
        assert any(found) is fees


def test_a_plain_market_is_redeemed_at_once_and_a_group_outcome_by_outcome(get: Get, world: World) -> None:
    groups = {m.market.condition_id: m.market.exclusive_group for m in world.polymarket.values()}
    kinds = set()
    for wallet in {
        str(w) for m in world.polymarket.values() for w in m.trades().wallet if int(w[-1], 16) % 2 == 0
    }:
        for row in crawl(get, "/v2/activity", user=wallet, type="REDEEM", start=1, limit=500):
            group = groups[row["condition_id"]]
            assert bool(row["token_id"]) is group
            assert group or row["size"] == row["usdc_size"]
            kinds.add(group)
    assert kinds == {True, False}


def test_the_feed_goes_back_three_years_unless_it_is_told_how_far(get: Get, world: World) -> None:
    wallet = takers(world)[0]
    everything = crawl(get, "/v2/activity", user=wallet, start=1, limit=500)
    assert crawl(get, "/v2/activity", user=wallet, limit=500) == everything
    late = (world.now - DAY) // SECOND
    assert all(
        row["timestamp"] >= late for row in crawl(get, "/v2/activity", user=wallet, start=late, limit=500)
    )
    assert crawl(get, "/v2/activity", user=wallet, start=1, end=1, limit=500) == []


def test_as_many_contracts_of_one_outcome_are_held_as_of_the_other(get: Get, world: World) -> None:
    market = traded(world, resolved=False)
    gross = {"condition": market.market.condition_id, "include_pnl": "true"}
    held = Counter[str]()
    for group in crawl(get, "/v2/holders", limit=7, **gross):
        held[group["token_id"]] += sum(micro(row["amount"]) for row in group["holders"])
    made = sum(
        act.size for hand in hands(market, world.now).values() for act in hand.acts if act.kind == "SPLIT"
    )
    assert list(held.values()) == [made, made]
    assert made > 0


def test_holders_are_the_largest_net_positions_in_their_order(get: Get, world: World) -> None:
    market = traded(world, resolved=False)
    condition = market.market.condition_id
    tokens = [token(market.market, outcome) for outcome in (0, 1)]
    held = dict[tuple[str, str], int]()
    for row in crawl(get, "/v2/positions", condition=condition, limit=500, **DUST):
        held[row["proxy_wallet"], row["token_id"]] = micro(row["current_size"])
    both = {wallet for wallet, _ in held if all(held.get((wallet, each)) for each in tokens)}
    assert both
    whole = crawl(get, "/v2/holders", condition=condition, limit=1000)
    gross = crawl(get, "/v2/holders", condition=condition, limit=100, include_pnl="true")
    for group, sided, mine, other in zip(whole, gross, tokens, reversed(tokens), strict=True):
        assert group["token_id"] == sided["token_id"] == mine
        net = {w: held.get((w, mine), 0) - held.get((w, other), 0) for w, _ in held}
        assert {h["proxy_wallet"]: micro(h["amount"]) for h in group["holders"]} == {
            wallet: size for wallet, size in net.items() if size > 0
        }
        assert {h["proxy_wallet"]: micro(h["amount"]) for h in sided["holders"]} == {
            wallet: size for (wallet, each), size in held.items() if each == mine and size
        }
        assert {"avg_price", "total_pnl"} <= sided["holders"][0].keys()
        amounts = [holder["amount"] for holder in group["holders"]]
        assert amounts == sorted(amounts, reverse=True)
    pages = crawl(get, "/v2/holders", condition=condition, limit=2)
    for place, group in enumerate(whole):
        rows = [row for page in pages[place::2] for row in page["holders"]]
        assert rows == group["holders"]


def test_dust_is_hidden_unless_it_is_asked_for(get: Get, world: World) -> None:
    market = traded(world, resolved=False)
    every = crawl(get, "/v2/positions", condition=market.market.condition_id, limit=500, **DUST)
    sizes = sorted(row["current_size"] for row in every if row["current_size"])
    least = sizes[len(sizes) // 2]
    large = crawl(get, "/v2/positions", condition=market.market.condition_id, limit=500, filter_amount=least)
    assert min(row["current_size"] for row in large if row["current_size"]) == least
    assert len(large) < len(every)


def test_what_is_held_is_listed_as_open_and_other_statuses_narrow_it(get: Get, world: World) -> None:
    wallet = MAKERS[0]

    def told(**asked: Any) -> list[Any]:
        rows = crawl(get, "/v2/positions", user=wallet, limit=500, **asked)
        return sorted(rows, key=lambda row: str(row["token_id"]))

    held, gone = told(status="OPEN", **DUST), told(status="CLOSED")
    assert told(**DUST) == held
    assert {row["status"] for row in held} == {"OPEN", "REDEEMABLE"}
    assert {row["status"] for row in gone} == {"CLOSED"}
    redeemable = [row for row in held if row["status"] == "REDEEMABLE"]
    assert told(status="REDEEMABLE", **DUST) == redeemable
    lost = told(status="REDEEMABLE_LOST", **DUST)
    assert lost == [row for row in redeemable if row["current_price"] == 0] != []
    assert all(row["mergeable"] for row in told(status="MERGEABLE", **DUST))
    for row in held + gone:
        assert micro(row["total_cost_usdc"]) == micro(row["entry_cost_usdc"]) + micro(row["entry_fees_usdc"])


def test_what_one_gains_the_others_lose(world: World) -> None:
    for since in (0, world.now - 7 * DAY):
        found = standings(world, since)
        assert len(found) > 10
        assert abs(sum(each.pnl for each in found)) <= len(found)
        assert any(each.pnl for each in found)
    legs_ = [row.size for m in world.polymarket.values() for row in legs(m)]
    assert sum(each.volume for each in standings(world, 0)) == sum(legs_)


def test_profit_is_what_positions_and_the_money_say(get: Get, world: World) -> None:
    (row,) = [r for r in crawl(get, "/v2/leaderboard", time_period="all", limit=100) if r["rank"] == 1]
    wallet = row["user_id"]
    held = [
        each
        for status in ("OPEN", "CLOSED")
        for each in crawl(get, "/v2/positions", user=wallet, limit=500, status=status, **DUST)
    ]
    assert row["pnl"] == pytest.approx(sum(each["total_pnl"] for each in held), abs=0.001)
    acts = crawl(get, "/v2/activity", user=wallet, start=1, limit=500)
    assert row["volume"] == pytest.approx(sum(act["size"] for act in acts if act["type"] == "TRADE"))


def test_the_skilled_lead_and_lists_fall(get: Get, world: World) -> None:
    for sort_by, name in (("PNL", "pnl"), ("VOLUME", "volume")):
        rows = crawl(get, "/v2/leaderboard", time_period="month", sort_by=sort_by, limit=10)
        assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
        figures = [row[name] for row in rows]
        assert figures == sorted(figures, reverse=True)


def test_every_second_wallet_redeems_what_was_paid(get: Get, world: World) -> None:
    market = traded(world, resolved=True)
    payouts = market.resolution.payouts
    assert payouts is not None
    found = hands(market, world.now)
    for wallet, hand in found.items():
        redeemed = [act for act in hand.acts if act.kind == "REDEEM"]
        left = sum(holding.size for holding in hand.held)
        assert (left == 0) if int(wallet[-1], 16) % 2 == 0 else not redeemed
        for act in redeemed:
            paid = MICRO if act.outcome is None else payouts[act.outcome]
            assert act.cash == act.size * paid // MICRO
    assert any(act.kind == "REDEEM" for hand in found.values() for act in hand.acts)


def test_legs_of_one_wallet_are_those_of_all(world: World) -> None:
    market = traded(world, resolved=False)

    def told(rows: list[Row]) -> list[tuple[int, int]]:
        return [(row.at, row.maker) for row in rows]

    wallet = str(market.trades().wallet[0])
    assert told(list(legs(market, wallet))) == told([r for r in legs(market) if r.wallet == wallet])


@pytest.mark.parametrize("name", ["condition", "condition_id", "conditionId"])
def test_a_condition_goes_by_three_names(get: Get, world: World, name: str) -> None:
    condition = traded(world, resolved=False).market.condition_id
    for path in ("/v2/trades", "/v2/positions", "/v2/holders", "/v2/resolutions"):
        body = get(DATA + path, **{name: condition})
        assert body["data"]
        assert body == get(DATA + path, condition=condition)


@pytest.mark.parametrize(
    ("path", "params", "parameter"),
    [
        ("/v2/activity", {}, "user"),
        ("/v2/activity", {"user": "0x1", "type": "AIRDROP"}, "type"),
        ("/v2/activity", {"user": "0x1", "offset": 5}, "offset"),
        ("/v2/activity", {"user": "0x1", "limit": 1001}, "limit"),
        ("/v2/activity", {"user": "0x1", "start": 0}, "start"),
        ("/v2/positions", {"user": "0x1", "status": "LIMBO"}, "status"),
        ("/v2/positions", {"user": "0x1", "filter_amount": "much"}, "filter_amount"),
        ("/v2/holders", {}, "condition"),
        ("/v2/holders", {"condition": f"0x{1:064x},0x{2:064x}", "include_pnl": "true"}, "condition"),
        ("/v2/holders", {"condition": f"0x{1:064x}", "limit": 1001}, "limit"),
        ("/v2/holders", {"condition": f"0x{1:064x}", "limit": 101, "include_pnl": "true"}, "limit"),
        ("/v2/leaderboard", {"time_period": "year"}, "time_period"),
        ("/v2/leaderboard", {"sort_by": "LUCK"}, "sort_by"),
        ("/v2/leaderboard", {"category": "luck"}, "category"),
        ("/v2/leaderboard", {"limit": 101}, "limit"),
    ],
)
def test_a_bad_request_about_wallets_names_the_parameter(
    refused: Get, path: str, params: dict[str, Any], parameter: str
) -> None:
    status, body = refused(DATA + path, **params)
    assert (status, body["parameter"]) == (400, parameter)
