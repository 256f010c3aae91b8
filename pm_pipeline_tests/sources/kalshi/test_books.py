import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from itertools import count
from typing import Any

import httpx
import pytest
from httpx_ws.transport import ASGIWebSocketTransport
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from pm_pipeline.markets.clock import to_nanos
from pm_pipeline.markets.keys import MarketKey, Venue
from pm_pipeline.sources.errors import BadResponse, SourceError, SourceUnavailable
from pm_pipeline.sources.kalshi import BookFeed, KalshiAdapter
from pm_pipeline.sources.kalshi.books import BookLog, Frame, book_of
from pm_pipeline.sources.wire import convert
from pm_pipeline_tests.sources.kalshi.material import MARKET, NOW, TICKER, read, venue
from pm_pipeline_tests.sources.server import client_of, json_response

T0 = 1_783_600_000_000
SNAPSHOT = {
    "yes_dollars_fp": [["0.3000", "10.00"], ["0.4000", "5.00"]],
    "no_dollars_fp": [["0.5500", "7.00"]],
}


def snapshot(seq: int, sides: Any = SNAPSHOT, *, sid: int = 1, ts: int | None = None) -> dict[str, Any]:
    frame = {
        "type": "orderbook_snapshot",
        "sid": sid,
        "seq": seq,
        "msg": {"market_ticker": TICKER, "market_id": "u", **sides},
    }
    return frame if ts is None else {**frame, "sending_ts_ms": T0 + ts}


def delta(
    seq: int, change: str, price: str = "0.4000", side: str = "yes", *, ts: int | None = 1, **more: Any
) -> dict[str, Any]:
    stamp = {} if ts is None else {"ts_ms": T0 + ts}
    msg = {"market_ticker": TICKER, "price_dollars": price, "delta_fp": change, "side": side, **stamp, **more}
    return {"type": "orderbook_delta", "sid": 1, "seq": seq, "msg": msg}


def subscribed(sid: int = 1) -> dict[str, Any]:
    return {"type": "subscribed", "id": 1, "msg": {"channel": "orderbook_delta", "sid": sid}}


def run(*frames: dict[str, Any], received: int | None = None) -> list[dict[str, Any]]:
    log = BookLog(MARKET)
    return [
        row for frame in (subscribed(), *frames) for row in log.apply(convert(frame, Frame, "x"), received)
    ]


def short(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(r["kind"], r.get("side"), r.get("price"), r.get("size")) for r in rows]


RESET = [
    ("reset", None, None, None),
    ("level", "bid", 400_000, 5_000_000),
    ("level", "bid", 300_000, 10_000_000),
    ("level", "ask", 450_000, 7_000_000),
]


def test_a_snapshot_is_a_reset_and_a_bid_for_no_is_an_offer_of_yes() -> None:
    rows = run(snapshot(1, ts=0))
    assert short(rows) == RESET
    assert {r["seq"] for r in rows} == {T0 * 1000}
    assert {r["ts"] for r in rows} == {T0 * 10**6}


def test_signed_changes_become_absolute_sizes() -> None:
    rows = run(
        snapshot(1, ts=0),
        delta(2, "2.50"),
        delta(3, "-7.50"),
        delta(4, "1.00", "0.5500", "no"),
        delta(5, "3.00", "0.1000"),
    )
    assert short(rows[4:]) == [
        ("level", "bid", 400_000, 7_500_000),
        ("level", "bid", 400_000, 0),
        ("level", "ask", 450_000, 8_000_000),
        ("level", "bid", 100_000, 3_000_000),
    ]


def test_an_empty_side_is_left_out_of_a_snapshot_but_an_unknown_name_is_an_error() -> None:
    assert short(run(snapshot(1, {}, ts=0))) == [("reset", None, None, None)]
    with pytest.raises(BadResponse, match="which we do not know"):
        run(snapshot(1, {"yes_dollars": [["0.3", "1"]]}, ts=0))


@pytest.mark.parametrize(
    "after",
    [
        [delta(4, "1.00", ts=2)],
        [{"type": "ok", "sid": 1, "seq": 5, "msg": {}}],
        [{**delta(4, "1.00", ts=2), "msg": {"market_ticker": "OTHER"}}],
        [delta(3, "-99.00", ts=2)],
    ],
    ids=["number missing", "number used by ok", "number used by another market", "below zero"],
)
def test_a_gap_is_written_and_nothing_is_believed_until_the_next_snapshot(
    after: list[dict[str, Any]],
) -> None:
    last = after[-1]["seq"]
    log = BookLog(MARKET)
    frames = [subscribed(), snapshot(1, ts=0), delta(2, "1.00"), *after, delta(last + 1, "1.00", ts=3)]
    rows = [row for frame in frames for row in log.apply(convert(frame, Frame, "x"), None)]
    assert short(rows[5:]) == [("gap", None, None, None)]
    assert log.lost
    assert rows[-1]["ts"] == (T0 + 1) * 10**6
    rest = log.apply(convert(snapshot(last + 2, ts=4), Frame, "x"), None)
    assert (short(rest), log.lost) == (RESET, False)


def test_frames_seen_before_and_frames_of_others_change_nothing() -> None:
    rows = run(
        snapshot(1, ts=0),
        delta(2, "1.00"),
        delta(2, "1.00"),
        {"type": "ok", "sid": 1, "seq": 3, "msg": {}},
        {**delta(4, "1.00"), "msg": {"market_ticker": "OTHER"}},
        {**delta(9, "1.00"), "sid": 7},
        {"type": "ticker", "sid": 1, "seq": 50, "msg": {}},
        delta(5, "1.00"),
    )
    assert [r["size"] for r in rows[4:]] == [6_000_000, 7_000_000]


def test_a_row_is_known_when_we_had_it_and_never_before_an_earlier_row() -> None:
    late = (T0 + 500) * 10**6
    live = run(snapshot(1), delta(2, "1.00", ts=1), received=late)
    assert {(r["ts"], r["known_at"]) for r in live[:4]} == {(late, late)}
    assert (live[4]["ts"], live[4]["known_at"]) == ((T0 + 1) * 10**6, late)
    replayed = run(snapshot(1, ts=9), delta(2, "1.00", ts=5), delta(3, "1.00", ts=20))
    assert [r["known_at"] // 10**6 - T0 for r in replayed[3:]] == [9, 9, 20]
    assert [r["seq"] for r in replayed] == sorted(r["seq"] for r in replayed)
    assert len({r["seq"] for r in replayed}) == 3


def test_a_replayed_snapshot_without_a_stamp_waits_for_the_first_change() -> None:
    assert run(snapshot(1)) == []
    rows = run(snapshot(1), delta(2, "1.00", ts=5))
    assert short(rows) == [*RESET, ("level", "bid", 400_000, 6_000_000)]
    assert {r["ts"] for r in rows} == {(T0 + 5) * 10**6}
    log = BookLog(MARKET)
    for frame in (subscribed(), snapshot(1)):
        assert log.apply(convert(frame, Frame, "x"), None) == []
    assert short(log.finish(NOW)) == RESET
    assert log.finish(NOW) == []


def test_a_replay_that_begins_anew_after_a_gap_goes_on_behind_what_is_written() -> None:
    rows = run(
        snapshot(1, ts=0),
        delta(2, "1.00", ts=1),
        delta(4, "5.00", ts=3),
        snapshot(5, ts=0),
        delta(6, "1.00", ts=1),
        delta(7, "2.00", ts=2),
        delta(8, "5.00", ts=3),
    )
    assert short(rows[5:]) == [
        ("gap", None, None, None),
        ("reset", None, None, None),
        ("level", "bid", 400_000, 6_000_000),
        ("level", "bid", 300_000, 10_000_000),
        ("level", "ask", 450_000, 7_000_000),
        ("level", "bid", 400_000, 8_000_000),
        ("level", "bid", 400_000, 13_000_000),
    ]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ({"type": "error", "msg": {"code": 9, "msg": "Authentication required"}}, "error 9: Authentication"),
        ({**delta(2, "1.00"), "seq": None}, "has no seq"),
        (delta(2, "1.00", side="maybe"), "side is 'maybe'"),
        (delta(2, "1.00", price="1.5"), "not a price"),
        (delta(2, "x"), "delta_fp"),
        (delta(2, "1.00", ts_ms="soon"), "ts_ms is 'soon'"),
        (delta(2, "1.00", ts=None), "neither ts_ms nor ts"),
        ({"type": "subscribed", "msg": {"channel": "orderbook_delta"}}, "websocket orderbook_delta"),
        (snapshot(2, {"yes_dollars_fp": [["0.3"]]}, ts=1), "a level of yes_dollars_fp"),
    ],
)  # fmt: skip
def test_a_frame_we_cannot_read_is_refused(frame: dict[str, Any], words: str) -> None:
    with pytest.raises(BadResponse, match=words):
        run(snapshot(1, ts=0), frame)


changes = st.lists(
    st.tuples(st.sampled_from(["yes", "no"]), st.integers(1, 99), st.integers(-500, 500)), max_size=40
)


@given(changes)
def test_the_log_always_holds_the_venues_own_book_or_says_that_it_does_not(
    steps: list[tuple[str, int, int]],
) -> None:
    log = BookLog(MARKET)
    log.apply(convert(subscribed(), Frame, "x"), None)
    log.apply(convert(snapshot(1, {}, ts=0), Frame, "x"), None)
    truth: dict[tuple[str, int], int] = {}
    shown: dict[tuple[str, int], int] = {}
    for number, (side, cents, change) in enumerate(steps, start=2):
        frame = delta(number, f"{change / 100:.2f}", f"{cents / 100:.4f}", side, ts=number)
        rows = log.apply(convert(frame, Frame, "x"), None)
        truth[(side, cents)] = truth.get((side, cents), 0) + change
        if truth[(side, cents)] < 0:
            assert [row["kind"] for row in rows] == ["gap"]
            assert log.lost
            return
        (row,) = rows
        shown[(row["side"], row["price"])] = row["size"]
    expected = {
        ("bid", cents * 10_000) if side == "yes" else ("ask", 1_000_000 - cents * 10_000): size * 10_000
        for (side, cents), size in truth.items()
    }
    assert shown == expected


names = st.sampled_from(["orderbook_fp", "yes_dollars", "no_dollars", "x"])
anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@given(anything)
def test_any_json_is_a_rest_book_or_a_source_error(body: Any) -> None:
    try:
        bids, asks = book_of(body, "/orderbook")
    except SourceError:
        return
    assert all(0 <= price <= 1_000_000 and size >= 0 for price, size in [*bids.items(), *asks.items()])


# the REST book

ORDERBOOK = f"/markets/{TICKER}/orderbook"


@pytest.mark.parametrize("key", ["orderbook_fp", "orderbook"])
def test_the_present_book_is_read_in_both_generations(key: str) -> None:
    sides = {"yes_dollars": [["0.3000", "10.00"], ["0.4000", "5.00"]], "no_dollars": [["0.5500", "7.00"]]}
    answer = json_response({key: sides}, 200, {"x-sandbox-now": str(NOW)})
    rows = read(lambda a: a.get_orderbook(MARKET), {ORDERBOOK: answer})
    assert short(rows) == RESET
    assert {to_nanos(r["known_at"]) for r in rows} == {NOW}


def test_an_empty_book_is_read_and_an_absent_key_is_no_empty_book() -> None:
    empty = {"orderbook": {"yes_dollars": None, "no_dollars": None, "yes": None, "no": None}}
    assert len(read(lambda a: a.get_orderbook(MARKET), {ORDERBOOK: empty})) == 1
    for body, words in (
        ({"orderbook_fp": {"yes_dollars": []}}, "no_dollars is missing"),
        ({"orderbook": {"yes": [[40, 5]], "no": []}}, "yes_dollars is missing"),
        ({"book": {}}, "are both missing"),
        ([], "no object"),
    ):
        with pytest.raises(BadResponse, match=words):
            read(lambda a: a.get_orderbook(MARKET), {ORDERBOOK: json_response(body)})


MANY = "/markets/orderbooks"


def named(number: int) -> Any:
    return replace(MARKET, key=MarketKey(Venue.KALSHI, f"M{number}"))


def several(markets: list[Any], server: Any, **more: Any) -> list[tuple[str, int | None]]:
    """The rows of each book by ticker, ``None`` where there is none."""

    async def collect() -> list[tuple[str, int | None]]:
        async with KalshiAdapter(client_of(server), **more) as adapter:
            return [
                (market.key.native_id, batch and batch.num_rows)
                async for market, batch in adapter.get_orderbooks(markets)
            ]

    return asyncio.run(collect())


@pytest.mark.parametrize("feed", list(BookFeed))
def test_many_books_are_asked_for_together_whatever_the_feed(feed: BookFeed) -> None:
    """A snapshot of three hundred books must not wait for each of them to rest."""
    sides = {"yes_dollars": [["0.3000", "10.00"]], "no_dollars": []}
    known = [{"ticker": f"M{number}", "orderbook_fp": sides} for number in range(1, 100)]
    server = venue({MANY: [{"orderbooks": known}, {"orderbooks": []}]})
    found = several([named(number) for number in range(150)], server, book_feed=feed)
    assert found == [(f"M{number}", 2 if 0 < number < 100 else None) for number in range(150)]
    assert server.paths == [MANY, MANY]


@pytest.mark.parametrize(
    "body", [{}, {"orderbooks": {}}, {"orderbooks": [{"orderbook_fp": {}}]}, {"orderbooks": ["M1"]}]
)
def test_an_answer_without_its_books_is_no_market_without_one(body: dict[str, Any]) -> None:
    with pytest.raises(BadResponse, match=r"/markets/orderbooks: .*(missing|no ticker)"):
        several([named(1)], venue({MANY: body}))


# the channel

Talk = Callable[[WebSocket, int], Coroutine[Any, Any, None]]


def stream(
    talk: Talk, *, silence_s: float = 5.0, feed: BookFeed = BookFeed.REPLAY, watch_s: float = 60.0
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows that the adapter reads from a server that talks like this, and the commands that it got."""
    commands: list[dict[str, Any]] = []
    connections = iter(range(1000))

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        real_receive = socket.receive_text

        async def receive_text() -> str:
            text = await real_receive()
            commands.append(json.loads(text))
            return text

        socket.receive_text = receive_text  # type: ignore[method-assign]
        await talk(socket, next(connections))

    async def status(_: Any) -> JSONResponse:
        return JSONResponse({}, headers={"x-sandbox-now": str(NOW)})

    app = Starlette(routes=[WebSocketRoute("/ws", endpoint), Route("/exchange/status", status)])

    async def collect() -> list[dict[str, Any]]:
        client = client_of(ASGIWebSocketTransport(app))
        adapter = KalshiAdapter(
            client, book_feed=feed, books_url="wss://books.test/ws", silence_s=silence_s, watch_s=watch_s
        )
        async with adapter:
            return [row async for batch in adapter.get_orderbook(MARKET) for row in batch.to_pylist()]

    return asyncio.run(collect()), commands


async def send(socket: WebSocket, *frames: dict[str, Any]) -> None:
    for frame in frames:
        await socket.send_text(json.dumps(frame))


def test_the_channel_is_read_until_the_server_closes_it() -> None:
    async def talk(socket: WebSocket, _: int) -> None:
        await socket.receive_text()
        await send(socket, subscribed(), snapshot(1, ts=0), delta(2, "1.00"))
        await socket.close(1000)

    rows, commands = stream(talk)
    assert short(rows) == [*RESET, ("level", "bid", 400_000, 6_000_000)]
    assert {to_nanos(row["ingested_at"]) for row in rows} == {NOW}
    params = {"channels": ["orderbook_delta"], "market_tickers": [TICKER], "use_yes_price": False}
    assert commands == [{"id": 1, "cmd": "subscribe", "params": params}]


def test_a_long_recording_comes_in_several_batches_and_whole() -> None:
    async def talk(socket: WebSocket, _: int) -> None:
        await socket.receive_text()
        await send(
            socket, subscribed(), snapshot(1, {}, ts=0), *(delta(n, "1.00", ts=n) for n in range(2, 9_002))
        )
        await socket.close(1000)

    rows, _ = stream(talk)
    assert len(rows) == 9_001
    assert rows[-1]["size"] == 9_000_000_000


def test_a_live_book_that_rests_is_told_as_far_as_it_goes() -> None:
    async def talk(socket: WebSocket, _: int) -> None:
        await socket.receive_text()
        await send(socket, subscribed(), snapshot(1, ts=0))
        await socket.receive_text()

    rows, _ = stream(talk, silence_s=0.5, feed=BookFeed.LIVE)
    assert short(rows) == RESET


def test_a_live_book_that_never_rests_is_told_after_a_while_all_the_same() -> None:
    """A busy market would else be read for ever, and nothing of it written."""

    async def talk(socket: WebSocket, _: int) -> None:
        await socket.receive_text()
        await send(socket, subscribed(), snapshot(1, {}, ts=0))
        for number in count(2):
            await send(socket, delta(number, "1.00", ts=number))
            await asyncio.sleep(0.001)

    rows, _ = stream(talk, silence_s=60.0, watch_s=2.0, feed=BookFeed.LIVE)
    assert rows[0]["kind"] == "reset"


def test_a_live_channel_that_closes_before_any_book_has_not_said_that_there_is_none() -> None:
    async def talk(socket: WebSocket, connection: int) -> None:
        await socket.receive_text()
        await send(socket, subscribed(), *([snapshot(1, ts=0)] if connection else []))
        await socket.close(1000)

    rows, _ = stream(talk, feed=BookFeed.LIVE)
    assert short(rows) == RESET


def test_a_replay_has_no_such_end() -> None:
    async def talk(socket: WebSocket, _: int) -> None:
        await socket.receive_text()
        await send(socket, subscribed(), snapshot(1, ts=0))
        await asyncio.sleep(0.1)
        await send(socket, delta(2, "1.00"))
        await socket.close(1000)

    rows, _ = stream(talk, watch_s=0.01)
    assert short(rows) == [*RESET, ("level", "bid", 400_000, 6_000_000)]


def test_a_first_snapshot_that_was_lost_is_asked_for() -> None:
    """No number tells of it: the first frame that comes may have any."""

    async def talk(socket: WebSocket, _: int) -> None:
        await socket.receive_text()
        await send(socket, subscribed(), delta(2, "1.00", ts=1))
        await socket.receive_text()
        await send(socket, {"type": "ok", "id": 2, "sid": 1, "seq": 3, "msg": {}}, snapshot(4, ts=2))
        await socket.close(1000)

    rows, commands = stream(talk)
    assert short(rows) == RESET
    assert [command["cmd"] for command in commands] == ["subscribe", "update_subscription"]


def test_a_snapshot_behind_a_gap_is_told_however_many_rows_came_before() -> None:
    async def talk(socket: WebSocket, _: int) -> None:
        await socket.receive_text()
        changes = (delta(number, "1.00", ts=number) for number in range(2, 4_096))
        await send(socket, subscribed(), snapshot(1, {}, ts=1), *changes, delta(4_097, "1.00", ts=5_000))
        await socket.receive_text()
        await send(socket, {"type": "ok", "id": 2, "sid": 1, "seq": 4_098, "msg": {}}, snapshot(4_099))
        await socket.close(1000)

    rows, _ = stream(talk)
    assert len(rows) == 4_096 + len(RESET)  # a whole batch, the gap at its end
    assert rows[4_095]["kind"] == "gap"
    assert short(rows[4_096:]) == RESET


@pytest.mark.parametrize(
    ("feed", "frames", "words"),
    [
        (BookFeed.REPLAY, [subscribed(), snapshot(1, ts=0)], "did not go on to its end"),
        (BookFeed.REPLAY, [subscribed()], "never sent the book"),
        (BookFeed.LIVE, [subscribed()], "never sent the book"),
        (BookFeed.LIVE, [], "never sent the book"),
    ],
)
def test_silence_before_the_end_or_before_any_book_is_no_end(
    feed: BookFeed, frames: list[dict[str, Any]], words: str
) -> None:
    async def talk(socket: WebSocket, _: int) -> None:
        await socket.receive_text()
        await send(socket, *frames)
        await socket.receive_text()

    with pytest.raises(SourceUnavailable, match=f"{words}: nothing came for 0.5 s"):
        stream(talk, silence_s=0.5, feed=feed)


def test_a_gap_asks_for_a_snapshot_on_the_same_connection() -> None:
    async def talk(socket: WebSocket, _: int) -> None:
        await socket.receive_text()
        await send(socket, subscribed(), snapshot(1, ts=0), delta(3, "1.00", ts=1), delta(4, "1.00", ts=2))
        await socket.receive_text()
        await send(socket, {"type": "ok", "id": 2, "sid": 1, "seq": 5, "msg": {}}, snapshot(6, {}, ts=3))
        await socket.close(1000)

    rows, commands = stream(talk)
    assert [row["kind"] for row in rows] == ["reset", "level", "level", "level", "gap", "reset"]
    assert commands[1] == {
        "id": 2,
        "cmd": "update_subscription",
        "params": {"action": "get_snapshot", "sids": [1], "market_tickers": [TICKER]},
    }


def test_a_connection_that_breaks_is_made_again_behind_a_gap() -> None:
    async def talk(socket: WebSocket, connection: int) -> None:
        await socket.receive_text()
        await send(socket, subscribed(), snapshot(1, {}, ts=connection), delta(2, "1.00", ts=connection + 5))
        await socket.close(1000 if connection == 1 else 1011)

    rows, commands = stream(talk)
    assert [row["kind"] for row in rows] == ["reset", "level", "gap", "reset", "level"]
    assert [command["cmd"] for command in commands] == ["subscribe", "subscribe"]


def test_a_feed_that_breaks_again_and_again_is_given_up() -> None:
    async def talk(socket: WebSocket, _: int) -> None:
        await socket.receive_text()
        await socket.close(1011)

    with pytest.raises(SourceUnavailable, match="failed 50 times: the connection broke"):
        stream(talk)


def test_a_venue_that_cannot_be_reached_is_given_up() -> None:
    class Refusing(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/ws":
                raise httpx.ConnectError("refused")
            return httpx.Response(200, stream=httpx.ByteStream(b"{}"))

    async def collect() -> None:
        adapter = KalshiAdapter(
            client_of(Refusing()), book_feed=BookFeed.REPLAY, books_url="wss://books.test/ws"
        )
        async with adapter:
            async for _ in adapter.get_orderbook(MARKET):
                pass

    with pytest.raises(SourceUnavailable, match="the connection broke"):
        asyncio.run(collect())


def test_an_error_of_the_venue_is_not_wrapped() -> None:
    async def talk(socket: WebSocket, _: int) -> None:
        await socket.receive_text()
        await send(socket, {"type": "error", "id": 1, "msg": {"code": 16, "msg": "Market not found"}})
        await socket.receive_text()

    with pytest.raises(BadResponse, match="error 16: Market not found"):
        stream(talk)


def test_a_frame_that_is_not_json_is_refused() -> None:
    async def talk(socket: WebSocket, _: int) -> None:
        await socket.receive_text()
        await socket.send_text("{")
        await socket.receive_text()

    with pytest.raises(BadResponse, match="websocket orderbook_delta"):
        stream(talk)


def test_a_refused_handshake_names_the_keys_that_are_missing() -> None:
    async def refuse(scope: Any, receive: Any, send_message: Any) -> None:
        await receive()
        await send_message({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send_message({"type": "websocket.http.response.body", "body": b""})

    async def collect() -> None:
        transport: httpx.AsyncBaseTransport = ASGIWebSocketTransport(refuse)
        adapter = KalshiAdapter(
            client_of(transport), book_feed=BookFeed.LIVE, books_url="wss://books.test/ws", silence_s=1
        )
        async with adapter:
            async for _ in adapter.get_orderbook(MARKET):
                pass

    with pytest.raises(SourceUnavailable, match="HTTP 401"):
        asyncio.run(collect())


def test_a_price_that_comes_twice_would_add_up_and_is_refused() -> None:
    body = {"orderbook_fp": {"yes_dollars": [["0.40", "5.00"], ["0.40", "5.00"]], "no_dollars": []}}
    with pytest.raises(BadResponse, match=r"yes_dollars names the price 0\.40 twice"):
        book_of(body, "/orderbook")
