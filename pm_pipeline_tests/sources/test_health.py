"""Which sources are alive: every probe against the sandbox, with faults, and at later times."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import DAY, Nanos
from pm_pipeline.sources import health as module
from pm_pipeline.sources.connect import SourceMode, open_sources
from pm_pipeline.sources.health import Health, Sources, Verdict, examine, needs_help
from pm_pipeline.sources.sandbox.app import build_app
from pm_pipeline.sources.sandbox.faults import Faults, Planned
from pm_pipeline.sources.sandbox.serve import running_server
from pm_pipeline_tests.small_world import load_world

ALL = {
    "polymarket gamma",
    "polymarket clob",
    "polymarket websocket",
    "polymarket data v2 trades",
    "polymarket data v2 status",
    "goldsky subgraph",
    "polygon node",
    "kalshi",
}


def health(*faults: str, later: Nanos = 0, node: bool = True) -> dict[str, Health]:
    world = load_world()
    app = build_app(world, Faults(tuple(Planned.parse(text) for text in faults)))

    async def run() -> list[Health]:
        async with open_sources(SourceMode.SANDBOX, sandbox_app=app) as sources:
            asked = sources if node else Sources(sources.clients, None, sources.channel)
            return await examine(asked, world.now + later)

    return {each.source: each for each in asyncio.run(run())}


def test_each_source_of_the_small_world_has_its_verdict() -> None:
    found = health()
    assert {name: each.verdict for name, each in found.items()} == {
        **dict.fromkeys(ALL, Verdict.ALIVE),
        "goldsky subgraph": Verdict.FROZEN,
        "kalshi": Verdict.STALE,  # its markets closed ten days ago
    }
    assert [each.source for each in needs_help(found.values())] == ["kalshi"]
    assert "87814766" in found["goldsky subgraph"].note


def test_sources_whose_newest_row_is_old_are_stale_and_need_help() -> None:
    found = health(later=3 * DAY)
    stale = ALL - {"goldsky subgraph", "polymarket websocket"}
    assert {name for name, each in found.items() if each.verdict is Verdict.STALE} == stale
    assert {each.source for each in needs_help(found.values())} == stale


@pytest.mark.parametrize(
    ("fault", "dead"),
    [
        ("unavailable@/v2/trades#1x9", {"polymarket data v2 trades"}),
        ("cut_body@/v2/status#1x9", {"polymarket data v2 status"}),
        ("server_error@/book#1x9", {"polymarket clob"}),
        ("rate_limited@/trade-api/v2/markets/trades#1x9", {"kalshi"}),
        ("unavailable@/markets/keyset#1x99", {"polymarket gamma"}),
    ],
)
def test_a_source_that_does_not_answer_is_dead_and_says_why(fault: str, dead: set[str]) -> None:
    found = health(fault)
    assert {name for name, each in found.items() if each.verdict is Verdict.DEAD} == dead
    assert all("failed 2 times" in found[name].note for name in dead)


def test_a_source_that_cannot_be_asked_is_not_called_dead() -> None:
    """Gamma names the token that the CLOB and its channel are asked for."""
    found = health("unavailable@/markets/keyset#1x99")
    for name in ("polymarket clob", "polymarket websocket"):
        assert found[name].verdict is Verdict.UNSET
        assert "not asked, for Gamma names no token" in found[name].note


async def _closes(socket: WebSocket) -> None:
    await socket.close(1012)


async def _says_nothing(socket: WebSocket) -> None:
    await asyncio.sleep(0)


async def _sends_bytes(socket: WebSocket) -> None:
    await socket.send_bytes(b"x")


async def _sends_an_empty_list(socket: WebSocket) -> None:
    await socket.send_text("[]")


async def _names_no_time(socket: WebSocket) -> None:
    await socket.send_text('{"event_type": "book", "timestamp": "99999999999999999999"}')


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (_closes, "WebSocketDisconnect"),
        (_says_nothing, "TimeoutError"),
        (_sends_bytes, "WebSocketInvalidTypeReceived"),
        (_sends_an_empty_list, "the first frame is not what it should be"),
        (_names_no_time, "the first frame is not what it should be"),
    ],
)
def test_a_channel_that_misbehaves_is_dead_and_never_an_exception(
    answer: Callable[[WebSocket], Awaitable[None]], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a real port: the task group of the socket wraps every error."""
    monkeypatch.setattr(module, "_PATIENCE_S", 0.2)

    async def serve(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive_text()
        await answer(socket)
        with suppress(WebSocketDisconnect):
            await socket.receive_text()

    async def run(url: str) -> list[Health]:
        async with (
            open_sources(SourceMode.SANDBOX, sandbox_app=build_app(load_world())) as sources,
            httpx.AsyncClient(trust_env=False) as http,
        ):
            channel = http, url.replace("http", "ws") + "/ws"
            return await examine(Sources(sources.clients, sources.node, channel), load_world().now)

    with running_server(Starlette(routes=[WebSocketRoute("/ws", serve)])) as url:
        found = {each.source: each for each in asyncio.run(run(url))}
    assert found["polymarket websocket"].verdict is Verdict.DEAD
    assert reason in found["polymarket websocket"].note
    assert found["polymarket clob"].verdict is Verdict.ALIVE


def test_a_node_without_an_address_is_unset_and_says_which_setting_names_it() -> None:
    found = health(node=False)["polygon node"]
    assert (found.verdict, found.newest) == (Verdict.UNSET, None)
    assert "PM_POLYGON_RPC" in found.note


def test_an_archive_cannot_be_alive() -> None:
    async def run() -> None:
        async with open_sources(SourceMode.ARCHIVE):
            raise AssertionError

    with pytest.raises(UsageError, match="PM_SOURCE=live"):
        asyncio.run(run())
