import asyncio
import json
from typing import Any

import httpx
import numpy as np
import pytest
from httpx_ws import AsyncWebSocketSession, WebSocketDisconnect, aconnect_ws
from httpx_ws.transport import ASGIWebSocketTransport

from pm_pipeline.markets.units import MICRO, to_micro
from pm_pipeline.sources.sandbox import Fault, Faults, Planned, World, build_app, generate_world
from pm_pipeline.sources.sandbox.plans import fifteen_minute_event
from pm_pipeline.sources.sandbox.world import ABSENT, WorldMarket

PLANS = [fifteen_minute_event(f"2026-06-28T16:{minute}:00Z", 78_000.0) for minute in ("15", "30")]
TICKERS = ["KXBTC15M-26JUN281215-15", "KXBTC15M-26JUN281230-30"]
URL = "http://external-api-ws.kalshi.com/trade-api/ws/v2"


@pytest.fixture(scope="module")
def small() -> World:
    return generate_world(7, PLANS)


def talk(world: World, *commands: Any, faults: Faults | None = None, until: int | None = None) -> list[Any]:
    """Send the commands, and read until the server closes or so many frames have come."""

    async def read(session: AsyncWebSocketSession) -> list[Any]:
        frames: list[Any] = []
        for command in commands:
            await session.send_text(command if isinstance(command, str) else json.dumps(command))
        try:
            while until is None or len(frames) < until:
                frames.append(json.loads(await session.receive_text()))
        except WebSocketDisconnect as closed:
            frames.append(closed.code)
        return frames

    async def run() -> list[Any]:
        session: AsyncWebSocketSession
        async with (
            ASGIWebSocketTransport(app=build_app(world, faults)) as transport,
            httpx.AsyncClient(transport=transport) as client,
            aconnect_ws(URL, client, queue_size=8192, max_message_size_bytes=2**24) as session,
        ):
            return await read(session)

    return asyncio.run(run())


def subscribe(*tickers: str, **params: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "cmd": "subscribe",
        "params": {"channels": ["orderbook_delta"], "market_tickers": list(tickers), **params},
    }


def replay(frames: list[Any], ticker: str, *, yes_price: bool = False) -> list[tuple[int, int, int]]:
    """(time, best bid, best ask) after each change of the touch, rebuilt from the frames alone."""
    sides: dict[str, dict[int, int]] = {"yes": {}, "no": {}}
    seen: list[tuple[int, int, int]] = []
    for frame in frames:
        msg = frame["msg"]
        if msg.get("market_ticker") != ticker:
            continue
        if frame["type"] == "orderbook_snapshot":
            for side in sides:
                sides[side] = {to_micro(p): to_micro(s) for p, s in msg.get(f"{side}_dollars_fp", [])}
        else:
            levels, price = sides[msg["side"]], to_micro(msg["price_dollars"])
            levels[price] = levels.get(price, 0) + to_micro(msg["delta_fp"])
            assert levels[price] >= 0
        live = {side: [p for p, s in levels.items() if s] for side, levels in sides.items()}
        asks = live["no"] if yes_price else [MICRO - p for p in live["no"]]
        seen.append((frame["sending_ts_ms"], max(live["yes"], default=ABSENT), min(asks, default=ABSENT)))
    return seen


def touch_at(market: WorldMarket, ms: int) -> tuple[int, int]:
    quotes = market.quotes()
    row = int(np.searchsorted(quotes.ts, ms * 1_000_000, side="right")) - 1
    return int(quotes.bid[row]), int(quotes.ask[row])


@pytest.mark.parametrize("yes_price", [False, True])
def test_the_frames_rebuild_the_quoted_touch_at_every_moment(small: World, yes_price: bool) -> None:
    subscribed, *frames, code = talk(small, subscribe(TICKERS[0], use_yes_price=yes_price))
    assert subscribed == {"id": 1, "type": "subscribed", "msg": {"channel": "orderbook_delta", "sid": 1}}
    assert code == 1000
    assert frames[0]["type"] == "orderbook_snapshot"
    seen = replay(frames, TICKERS[0], yes_price=yes_price)
    last = {ms: touch for ms, *touch in seen}
    market = small.kalshi[TICKERS[0]]
    assert len(last) > 400
    assert all(tuple(touch) == touch_at(market, ms) for ms, touch in last.items())


def test_seq_counts_over_all_markets_of_a_subscription(small: World) -> None:
    _, *frames, _ = talk(small, subscribe(*TICKERS))
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert {frame["msg"]["market_ticker"] for frame in frames} == set(TICKERS)
    stamps = [frame["sending_ts_ms"] for frame in frames]
    assert stamps == sorted(stamps)


def test_an_ok_frame_uses_up_a_number(small: World) -> None:
    update = {
        "id": 2,
        "cmd": "update_subscription",
        "params": {"sids": [1], "action": "add_markets", "market_tickers": [TICKERS[1]]},
    }
    _, *frames, code = talk(small, subscribe(TICKERS[0]), update)
    (ok,) = [frame for frame in frames if frame["type"] == "ok"]
    assert ok["msg"] == {"market_tickers": [TICKERS[1]]}
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert {f["msg"].get("market_ticker") for f in frames} == {None, *TICKERS}
    assert code == 1000


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("no json", 1),
        ([1], 1),
        ({"id": 1, "cmd": "subscribe"}, 2),
        ({"id": 1, "cmd": "subscribe", "params": {}}, 3),
        ({"id": 1, "cmd": "dance", "params": {}}, 5),
        ({"id": 1, "cmd": "update_subscription", "params": {"sid": 1}}, 7),
        ({"id": 1, "cmd": "subscribe", "params": {"channels": ["fill"]}}, 8),
        ({"id": 1, "cmd": "subscribe", "params": {"channels": ["orderbook_delta"]}}, 14),
        (subscribe("NONE"), 16),
    ],
)
def test_a_bad_command_is_answered_with_its_code(small: World, command: Any, code: int) -> None:
    (frame,) = talk(small, command, until=1)
    assert frame["type"] == "error"
    assert frame["msg"]["code"] == code


def test_an_unknown_action_is_refused_and_the_play_goes_on(small: World) -> None:
    update = {"id": 2, "cmd": "update_subscription", "params": {"sid": 1, "action": "sing"}}
    frames = talk(small, subscribe(TICKERS[0]), update)
    assert [f["msg"]["code"] for f in frames[:-1] if f["type"] == "error"] == [13]
    assert frames[-1] == 1000


def test_a_single_ticker_may_be_plain_text(small: World) -> None:
    params = {"channels": ["orderbook_delta"], "market_ticker": TICKERS[0]}
    frames = talk(small, {"id": 1, "cmd": "subscribe", "params": params}, until=2)
    assert frames[1]["msg"]["market_ticker"] == TICKERS[0]


def test_a_client_may_leave_in_the_middle(small: World) -> None:
    assert len(talk(small, subscribe(TICKERS[0]), until=3)) == 3


def test_a_sequence_gap_loses_one_change(small: World) -> None:
    faults = Faults((Planned(Fault.SEQUENCE_GAP, "/trade-api/ws/v2"),), dropped_delta=4)
    _, *frames, _ = talk(small, subscribe(TICKERS[0]), faults=faults)
    numbers = [frame["seq"] for frame in frames]
    assert sorted(set(range(1, numbers[-1] + 1)) - set(numbers)) == [5]


def test_other_faults_leave_the_channel_alone(small: World) -> None:
    faults = Faults((Planned(Fault.STALE, "/trade-api/ws/v2"),))
    assert len(talk(small, subscribe(TICKERS[0]), faults=faults, until=2)) == 2
