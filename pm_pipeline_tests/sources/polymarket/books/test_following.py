"""The recorder follows its universe: what joins the catalog is recorded, and the others have no gap."""

import asyncio
import itertools
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from pm_pipeline.markets.clock import MINUTE
from pm_pipeline.markets.market import Market
from pm_pipeline.recording import catalog_look
from pm_pipeline.sources.book_log import BOOKS
from pm_pipeline.sources.connect import open_market_channel
from pm_pipeline.sources.polymarket.books.recorder import Look, Recorder, Status, Terms
from pm_pipeline.sources.polymarket.books.recordings import read_recording
from pm_pipeline.sources.polymarket.books.segments import Rotation, read_segment, segments
from pm_pipeline.sources.sandbox import World, build_app, clob_ws, generate_world
from pm_pipeline.sources.sandbox.plans import POLITICS_FEES, question_event
from pm_pipeline.sources.sandbox.serve import running_server
from pm_pipeline.warehouse.coverage import read_coverage
from pm_pipeline.warehouse.files import StorageError
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline_tests.sources.polymarket.books.test_frames import book
from pm_pipeline_tests.sources.polymarket.books.test_recorder import (
    AT,
    FIRST,
    QUICK,
    SECOND,
    fill_catalog,
    lake_in,
    lines_of,
    markets_of,
    read,
    session,
    start,
    status_of,
    tokens_of,
    two_markets,
)
from pm_pipeline_tests.workdir import Workdir

FOLLOWING = replace(QUICK, follow_s=0.02)
Step = tuple[Callable[[Status], bool], Callable[[], object]]
"""What to wait for, and what to do then."""


@pytest.fixture(scope="module")
def world() -> World:
    """Three markets that trade; the third is listed last."""
    plans = [
        question_event(
            f"{name}-2026-07-02",
            f"{name}?",
            opened="2026-06-29T00:00:00Z",
            closed="2026-07-02T00:00:00Z",
            category="Politics",
            fees=POLITICS_FEES,
        )
        for name in ("one", "two", "three")
    ]
    return generate_world(5, [replace(plan, step=10 * MINUTE) for plan in plans])


def listed(world: World) -> list[Market]:
    """The markets in order of their keys, as the recorder takes them."""
    return sorted(markets_of(world), key=lambda market: market.key)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that takes seconds for its frames, so that those of the first markets go on meanwhile."""
    monkeypatch.setattr(clob_ws, "FRAMES", 1)


def follow(
    world: World,
    root: Path,
    tokens: Sequence[str],
    look: Look | None,
    *steps: Step,
    terms: Terms = FOLLOWING,
    app: ASGIApp | None = None,
) -> Status:
    """Record in this process, step by step, until the last one is done."""

    async def run() -> Status:
        async with open_market_channel("sandbox", sandbox_app=app or build_app(world)) as (http, url):
            recorder = Recorder(http, url, tokens, root, terms, look=look)
            stop = asyncio.Event()
            running = asyncio.create_task(recorder.run(stop))
            for number, (reached, act) in enumerate(steps):
                deadline = time.monotonic() + 60
                while not reached(recorder.status()):
                    assert not running.done(), running.result()
                    assert time.monotonic() < deadline, (number, recorder.status())
                    await asyncio.sleep(0.005)
                act()
            stop.set()
            return await running

    return asyncio.run(run())


def nothing() -> None:
    """The step is only waited for."""


def more_than(count: list[int]) -> Callable[[Status], bool]:
    """Whether many more frames came than at the first time of asking."""

    def reached(now: Status) -> bool:
        count[:] = count or [now.received]
        return now.received >= count[0] + 20

    return reached


def has_kept(least: int, status: dict[str, Any]) -> bool:
    """Whether so many frames are on the disk."""
    return bool(status["acknowledged"] >= least)


def opened(root: Path) -> list[list[str]]:
    """The tokens of each connection, in the order in which they were made."""
    found = {line.connection: line.tokens for line in lines_of(root) if line.what == "open"}
    return [found[number] for number in sorted(found)]


@pytest.mark.usefixtures("slow")
def test_a_market_that_joins_is_recorded_from_then_on_and_the_others_have_no_gap(
    world: World, tmp_path: Path
) -> None:
    markets, lake = listed(world), lake_in(tmp_path)
    first, second, third = tokens_of(markets)
    root = tmp_path / "data" / "sandbox-small_world" / "frames" / "polymarket"
    fill_catalog(lake, markets[:2])
    with running_server(build_app(world)) as url:
        process = start(tmp_path, url, "--status-s", "0.05", "--sync-s", "0.05", "--follow-s", "0.1")
        try:
            told = status_of(process, lambda status: status["acknowledged"] >= 20)
            assert (told["markets"], told["tokens"], told["connections"]) == (2, 2, 1)
            fill_catalog(lake, markets[2:], "2026-07-01")
            told = status_of(process, lambda status: status["tokens"] == 3)
            assert (told["markets"], told["connections"], told["unfollowed"]) == (3, 2, "")
            status_of(process, lambda status: status["acknowledged"] >= told["received"] + 40)
            process.send_signal(signal.SIGTERM)
            _, problem = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, problem
    lines = lines_of(root)
    assert {line.what for line in lines} == {"begin", "open", "frame", "stop"}  # none was lost
    assert opened(root) == [[first, second], [third]]
    [joined] = [line.at for line in lines if line.what == "open" and line.tokens == [third]]
    assert {line.connection for line in lines if line.at > joined and line.what == "frame"} == {
        line.connection for line in lines if line.what == "open"
    }, "frames of both connections came after the third market had joined"
    reported = read_recording(lake, root, markets, now=time.time_ns())
    assert reported.unknown == frozenset()
    for market in markets:
        rows = lake.read(BOOKS, str(market.key)).to_pylist()
        kinds = [row["kind"] for row in rows]
        assert (kinds[0], kinds.count("gap"), kinds[-1]) == ("reset", 1, "gap")  # the recorder stopped
        [coverage] = read_coverage(lake, BOOKS, str(market.key))
        assert (coverage.rows, coverage.gaps, coverage.reason) == (len(rows), 1, "")
        is_known_after = [row["known_at"].timestamp() >= joined / 1e9 - 1e-6 for row in rows]
        assert all(is_known_after) == (market.key == markets[2].key)


@pytest.mark.usefixtures("slow")
def test_what_was_followed_is_whole_after_a_kill(world: World, tmp_path: Path) -> None:
    """Killed as soon as the third market is watched, and again after its frames were acknowledged."""
    markets, lake = listed(world), lake_in(tmp_path)
    third = tokens_of(markets)[2]
    root = tmp_path / "data" / "sandbox-small_world" / "frames" / "polymarket"
    fill_catalog(lake, markets[:2])
    options = ["--status-s", "0.05", "--sync-s", "0.05", "--follow-s", "0.05"]
    before = 0
    with running_server(build_app(world)) as url:
        for least in (0, 40):
            process = start(tmp_path, url, *options)
            try:
                told = status_of(process, lambda status: status["acknowledged"] >= 10)
                fill_catalog(lake, markets[2:], "2026-07-01")
                status_of(process, lambda status: status["tokens"] == 3)
                told = status_of(process, partial(has_kept, least))
                process.kill()
                rest, _ = process.communicate(timeout=30)
            finally:
                process.kill()
                process.wait()
            for line in rest.splitlines():
                told = json.loads(line) if line.endswith("}") else told
            frames = sum(line.what == "frame" for line in lines_of(root))
            assert frames - before >= told["acknowledged"]
            before = frames
            read_recording(lake, root, markets, now=time.time_ns())
    assert third in itertools.chain(*opened(root))
    anew = Lake(tmp_path / "anew", durability="rename")
    read_recording(anew, root, markets, now=time.time_ns(), reading="anew")
    for market in markets:
        key = str(market.key)
        rows = lake.read(BOOKS, key)
        kinds = rows["kind"].to_pylist()
        assert kinds[-1] == "gap"
        assert 1 <= kinds.count("gap") <= 2  # a kill each, where there was a book
        assert all(after == "reset" for before, after in itertools.pairwise(kinds) if before == "gap")
        again = anew.read(BOOKS, key)
        columns = ["ts", "kind", "side", "price", "size"]
        assert rows.select(columns).equals(again.select(columns))
        [coverage] = read_coverage(lake, BOOKS, key)
        assert (coverage.rows, coverage.gaps) == (len(kinds), kinds.count("gap"))


@pytest.mark.usefixtures("slow")
def test_a_kill_at_any_moment_after_a_market_joined_leaves_what_was_flushed(
    world: World, tmp_path: Path
) -> None:
    """Cut the frames at each flush around the moment at which the third market joins."""
    markets, root = listed(world), tmp_path / "frames"
    tokens = tokens_of(markets)
    found: list[list[str]] = [tokens[:2]]
    follow(
        world,
        root,
        tokens[:2],
        lambda: found[-1],
        (lambda now: now.acknowledged >= 20, lambda: found.append(tokens)),
        (lambda now: now.tokens == 3, nothing),
        (more_than([]), nothing),
    )
    [path] = segments(root)
    body, lines = path.read_bytes(), list(read_segment(path))
    ends = sorted({end for _, end in lines})
    [joined] = [end for line, end in lines if line.tokens == tokens[2:]]
    near = ends[ends.index(joined) - 1 : ends.index(joined) + 4]
    whole, _ = read(world, root, tmp_path)
    held: list[list[int]] = []
    for end in near:
        copy = tmp_path / f"{end}" / path.parent.name / path.name
        copy.parent.mkdir(parents=True)
        copy.write_bytes(body[: end + 1])
        cut, _ = read(world, tmp_path / f"{end}", tmp_path / f"lake-{end}")
        held.append([])
        for market in markets:
            key = str(market.key)
            rows = cut.read(BOOKS, key).drop(["ingested_at"]).to_pylist() if cut.exists(BOOKS, key) else []
            assert not rows or rows[-1]["kind"] == "gap"
            assert rows[:-1] == whole.read(BOOKS, key).drop(["ingested_at"]).to_pylist()[: len(rows[:-1])]
            held[-1].append(len(rows))
    assert held[0][2] == 0 < held[-1][2]
    assert held == sorted(held)
    assert held[0][0] + held[0][1] < held[-1][0] + held[-1][1]


def damaged_partition(work: Workdir) -> Iterator[str]:
    fill_catalog(work.lake, [], "2026-07-01")
    [path] = [path for path in work.lake.paths("catalog.markets") if "2026-07-01" in path.name]
    path.write_bytes(b"nothing that Parquet is")
    yield "StorageError: .* is damaged"


def older_schema(work: Workdir) -> Iterator[str]:
    marker = work.lake.root / "_lake.json"
    now = marker.read_bytes()
    marker.write_text('{"schema_version": 1}')
    [path] = work.lake.paths("catalog.markets")
    os.utime(path)
    yield "SchemaVersionError: .* has schema version 1, .* run `bt migrate`"
    marker.write_bytes(now)


def forbidden_folder(work: Workdir) -> Iterator[str]:
    folder = work.lake.root / "catalog.markets"
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("a file")
    yield "NotADirectoryError: "
    folder.unlink()
    folder.with_name("elsewhere").rename(folder)


def broken_universe(work: Workdir) -> Iterator[str]:
    universe = work.data / "universe.yaml"
    before = universe.read_text()
    universe.write_text("markets: 3")
    yield "UsageError: .*universe.yaml"
    universe.write_text(before)


def empty_universe(work: Workdir) -> Iterator[str]:
    universe = work.data / "universe.yaml"
    before = universe.read_text()
    universe.write_text("markets: [{venue: polymarket, tags: [nothing]}]")
    yield "UsageError: no market to record"
    universe.write_text(before)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(
    "broken", [damaged_partition, older_schema, forbidden_folder, broken_universe, empty_universe]
)
def test_a_look_that_fails_is_told_and_tried_again_while_the_recording_goes_on(
    broken: Callable[[Workdir], Iterator[str]],
    world: World,
    empty: Workdir,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    markets = listed(world)
    tokens = tokens_of(markets)
    universe = empty.data / "universe.yaml"
    universe.parent.mkdir(parents=True, exist_ok=True)
    universe.write_text("markets: [{venue: polymarket}]")
    monkeypatch.setenv("PM_UNIVERSE", str(universe))
    fill_catalog(empty.lake, markets[:2])
    looks: list[None] = []
    look = catalog_look(empty.settings)
    told: list[str] = []

    def counted() -> Sequence[str] | None:
        looks.append(None)
        return look()

    def is_told(now: Status) -> bool:
        told[:] = [now.unfollowed] if now.unfollowed else told
        assert str(now).endswith(f"; new markets are not seen: {now.unfollowed}") == bool(now.unfollowed)
        return bool(now.unfollowed)

    breaking = broken(empty)
    words: list[str] = []
    status = follow(
        world,
        tmp_path / "frames",
        tokens[:2],
        counted,
        (lambda now: now.tokens == 2 and len(looks) > 2, lambda: words.append(next(breaking))),
        (is_told, looks.clear),
        (lambda now: is_told(now) and len(looks) > 2, nothing),
        (more_than([]), lambda: next(breaking, None)),
        (lambda now: True, lambda: fill_catalog(empty.lake, markets[2:], "2026-07-01")),
        (lambda now: now.tokens == 3, nothing),
        (lambda now: not now.unfollowed, nothing),
    )
    assert (status.markets, status.lost, status.unfollowed) == (3, 0, "")
    [message] = told
    assert words
    assert re.match(words[0], message), message
    assert opened(tmp_path / "frames") == [tokens[:2], tokens[2:]]


def test_a_look_reads_the_catalog_only_when_something_changed(
    world: World, empty: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    markets = listed(world)
    tokens = tokens_of(markets)
    fill_catalog(empty.lake, markets[:2])
    universe = empty.data / "universe.yaml"
    universe.write_text(f"markets: [{{venue: polymarket, ids: ['{tokens[0]}', '{tokens[2]}']}}]")
    monkeypatch.setenv("PM_UNIVERSE", str(universe))
    look = catalog_look(empty.settings)
    assert [look(), look()] == [tokens[:1], None]
    fill_catalog(empty.lake, markets[1:], "2026-07-01")
    assert [look(), look()] == [[tokens[0], tokens[2]], None]
    universe.write_text("markets: [{venue: polymarket}]")
    assert [set(look() or ()), look()] == [set(tokens), None]
    ended = replace(markets[1], traded_until=world.now)
    fill_catalog(empty.lake, [ended], "2026-07-02")
    assert [set(look() or ()), look()] == [{tokens[0], tokens[2]}, None]
    [*_, path] = empty.lake.paths("catalog.markets")
    path.write_bytes(b"?")
    for _ in range(2):
        with pytest.raises(StorageError, match="is damaged"):
            look()
    fill_catalog(empty.lake, [ended], "2026-07-02")
    assert set(look() or ()) == {tokens[0], tokens[2]}


@pytest.mark.usefixtures("slow")
def test_a_look_that_takes_long_holds_nothing_up(world: World, tmp_path: Path) -> None:
    going, may_end = threading.Event(), threading.Event()
    tokens = tokens_of(listed(world))

    def look() -> Sequence[str]:
        going.set()
        may_end.wait(60)
        return tokens

    status = follow(
        world,
        tmp_path,
        tokens[:1],
        look,
        (lambda now: going.is_set(), nothing),
        (more_than([]), may_end.set),
        (lambda now: now.tokens == 3, nothing),
    )
    assert (status.lost, status.connections) == (0, 2)


def test_a_market_that_ended_leaves_when_its_connection_is_made_anew_and_may_come_back(
    world: World, tmp_path: Path
) -> None:
    tokens = tokens_of(listed(world))
    wanted = [tokens]

    def want(*found: str) -> Callable[[], None]:
        return lambda: wanted.append(list(found))

    terms = replace(FOLLOWING, tokens_per_connection=2, quiet_s=0.3)
    status = follow(
        world,
        tmp_path,
        tokens,
        lambda: wanted[-1],
        (lambda now: (now.tokens, now.connections) == (3, 2), want(tokens[0])),
        (lambda now: now.markets == 1, nothing),
        (lambda now: (now.tokens, now.connections, now.open) == (1, 1, 1), want(*tokens[:2])),
        (lambda now: (now.markets, now.tokens) == (2, 2), nothing),
        terms=terms,
    )
    assert status.problem.startswith("frozen")
    made = opened(tmp_path)
    assert made[:2] == [tokens[:2], tokens[2:]]
    alone = made.index(tokens[:1])
    assert tokens[2] not in itertools.chain(*made[alone:])
    assert tokens[1] in itertools.chain(*made[alone + 1 :])


class Restarts:
    """The sandbox, whose sockets are all closed at once when it is told so, as a venue does that restarts."""

    def __init__(self, world: World) -> None:
        self._app = build_app(world)
        self._restart = asyncio.Event()

    def restart(self) -> None:
        self._restart.set()
        self._restart = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        serving = asyncio.create_task(self._app(scope, receive, send))
        restart = asyncio.create_task(self._restart.wait())
        await asyncio.wait({serving, restart}, return_when=asyncio.FIRST_COMPLETED)
        if restart.done():
            serving.cancel()
            await send({"type": "websocket.close", "code": 1012, "reason": ""})
        restart.cancel()


@pytest.mark.usefixtures("slow")
def test_connections_that_are_lost_together_come_back_as_one(world: World, tmp_path: Path) -> None:
    markets, venue = listed(world), Restarts(world)
    tokens = tokens_of(markets)
    found = iter([tokens[:2], tokens])
    most: list[int] = []

    def is_one(now: Status) -> bool:
        most.append(now.connections)
        if now.connections == now.open > 1:
            venue.restart()
        return (now.connections, now.tokens) == (1, 3)

    status = follow(
        world,
        tmp_path / "frames",
        tokens[:1],
        lambda: next(found, tokens),
        (lambda now: now.connections == now.open == 3 and not now.awaited, nothing),
        (is_one, nothing),
        (lambda now: now.awaited == 0, nothing),
        terms=replace(
            FOLLOWING, backoff_s=0.3, backoff_max_s=0.3, rotation=Rotation(bytes=1, sync_seconds=0.02)
        ),
        app=venue,
    )
    assert max(most) == 3
    assert (status.lost >= 3, status.problem) == (True, "closed by the venue (1012)")
    assert opened(tmp_path / "frames")[:3] == [[token] for token in tokens]
    assert sorted(opened(tmp_path / "frames")[-1]) == sorted(tokens)
    lake, _ = read(world, tmp_path / "frames", tmp_path)
    for market in markets:
        kinds = lake.read(BOOKS, str(market.key))["kind"].to_pylist()
        assert kinds.count("gap") >= 2  # a restart, and the end
        assert all(after == "reset" for before, after in itertools.pairwise(kinds) if before == "gap")


def test_a_recorder_may_have_more_than_a_hundred_connections(world: World, tmp_path: Path) -> None:
    """The HTTP client's own default ends there, and the rest would wait for ever."""
    count = 105
    terms = replace(QUICK, tokens_per_connection=1, silence_s=30, rotation=Rotation(sync_seconds=0.1))

    async def run() -> Status:
        with running_server(build_app(world)) as address:
            async with open_market_channel("sandbox", sandbox_url=address) as (http, url):
                recorder = Recorder(http, url, list(map(str, range(count))), tmp_path, terms)
                stop = asyncio.Event()
                running = asyncio.create_task(recorder.run(stop))
                deadline = time.monotonic() + 60
                while recorder.status().open < count:
                    assert time.monotonic() < deadline, recorder.status()
                    await asyncio.sleep(0.01)
                stop.set()
                return await running

    status = asyncio.run(run())
    assert (status.open, status.problem) == (count, "")


def test_a_market_that_the_catalog_learned_of_while_a_recording_is_read_is_read_too(tmp_path: Path) -> None:
    """The recorder saw it in the catalog and followed it, after the reading had begun with an older one."""
    root, lake, markets = tmp_path / "frames", Lake(tmp_path / "lake", durability="rename"), two_markets()
    session(root, [book(1, token=FIRST), book(2, token=SECOND)], [FIRST, SECOND, "404"], AT)
    fill_catalog(lake, markets)
    reported = read_recording(lake, root, markets[:1], now=1)
    assert reported.unknown == {"404"}
    assert [each.market_key for each in reported.taken] == [str(market.key) for market in markets]
    for market in markets:
        assert lake.read(BOOKS, str(market.key))["kind"].to_pylist() == ["reset", "level", "level", "gap"]
