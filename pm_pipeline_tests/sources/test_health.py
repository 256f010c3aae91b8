"""Which sources are alive: every probe against the sandbox, with faults, and at later times."""

import asyncio

import pytest

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import DAY, Nanos
from pm_pipeline.sources.connect import SourceMode, open_sources
from pm_pipeline.sources.health import Health, Sources, Verdict, examine, needs_help
from pm_pipeline.sources.sandbox.app import build_app
from pm_pipeline.sources.sandbox.faults import Faults, Planned
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
        ("unavailable@/markets/keyset#1x99", {"polymarket gamma", "polymarket clob", "polymarket websocket"}),
    ],
)
def test_a_source_that_does_not_answer_is_dead_and_says_why(fault: str, dead: set[str]) -> None:
    found = health(fault)
    assert {name for name, each in found.items() if each.verdict is Verdict.DEAD} == dead
    assert all("failed 2 times" in found[name].note for name in dead)


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
