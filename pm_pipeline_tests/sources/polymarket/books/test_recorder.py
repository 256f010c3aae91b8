"""The recorder against the sandbox's market channel: what it keeps, what it makes of a bad connection."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request, TextMessage

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import MINUTE, parse_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.book_log import BOOKS
from pm_pipeline.sources.connect import open_market_channel
from pm_pipeline.sources.polymarket.books import recorder as module
from pm_pipeline.sources.polymarket.books.recorder import Recorder, Status, Terms, the_only_recorder
from pm_pipeline.sources.polymarket.books.recordings import Reported, read_recording
from pm_pipeline.sources.polymarket.books.segments import (
    DamagedSegmentError,
    Line,
    Rotation,
    SegmentWriter,
    read_segment,
    segments,
)
from pm_pipeline.sources.sandbox import Fault, Faults, Planned, World, build_app, generate_world
from pm_pipeline.sources.sandbox.clob_ws import frames_of
from pm_pipeline.sources.sandbox.plans import POLITICS_FEES, question_event
from pm_pipeline.sources.sandbox.serve import running_server
from pm_pipeline.sources.sandbox.world import Token, book_at
from pm_pipeline.warehouse.arrays import book_log_from
from pm_pipeline.warehouse.coverage import read_coverage
from pm_pipeline.warehouse.files import StorageError
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.records import markets_to_tables
from pm_pipeline.warehouse.replay import BookReplay
from pm_pipeline_tests.processes import ROOT, scratch_environment
from pm_pipeline_tests.sources.polymarket.books.test_frames import MS, book, change
from pm_pipeline_tests.sources.polymarket.material import MARKET

PATH = "/ws/market"
QUICK = Terms(
    ping_s=0.05,
    silence_s=2,
    quiet_s=60,
    backoff_s=0.02,
    backoff_max_s=0.1,
    rotation=Rotation(sync_seconds=0.02),
)


@pytest.fixture(scope="module")
def world() -> World:
    plans = [
        question_event(
            name,
            f"{name}?",
            opened="2026-06-29T00:00:00Z",
            closed="2026-07-02T00:00:00Z",
            category="Politics",
            fees=POLITICS_FEES,
        )
        for name in ("one-2026-07-02", "two-2026-07-02")
    ]
    return generate_world(5, [replace(plan, step=30 * MINUTE) for plan in plans])


def markets_of(world: World) -> list[Market]:
    return [market.market for market in world.of_venue(Venue.POLYMARKET)]


def tokens_of(markets: Iterable[Market]) -> list[str]:
    return [str(market.instruments[0].token_id) for market in markets]


def frames_in(world: World, token: str) -> list[dict[str, Any]]:
    """Every frame that the sandbox has of a token, the first connection's."""
    return [frame for _, _, frame in frames_of(world.by_token[token], token)]


def record(
    world: World,
    root: Path,
    *,
    until: Callable[[Status], bool],
    faults: Faults | None = None,
    terms: Terms = QUICK,
) -> Status:
    """Record everything in this process until the status says so."""

    async def run() -> Status:
        app = build_app(world, faults)
        async with open_market_channel("sandbox", sandbox_app=app) as (http, url):
            recorder = Recorder(http, url, tokens_of(markets_of(world)), root, terms)
            stop = asyncio.Event()
            running = asyncio.create_task(recorder.run(stop))
            for _ in range(12_000):
                if running.done() or until(recorder.status()):
                    break
                await asyncio.sleep(0.01)
            stop.set()
            return await running

    return asyncio.run(run())


def lines_of(root: Path) -> list[Line]:
    return [line for path in segments(root) for line, _ in read_segment(path)]


def whole_life(world: World) -> int:
    return sum(len(frames_in(world, token)) for token in tokens_of(markets_of(world)))


def read(world: World, root: Path, tmp_path: Path, **how: Any) -> tuple[Lake, Reported]:
    lake = Lake(tmp_path / "lake", durability="rename")
    return lake, read_recording(lake, root, markets_of(world), now=time.time_ns(), **how)


def assert_ends_as_the_world(world: World, lake: Lake) -> None:
    """The last book of the log that was not lost is the world's."""
    for market in world.of_venue(Venue.POLYMARKET):
        rows = lake.read(BOOKS, str(market.market.key))
        kept = [row for row in rows.to_pylist() if row["kind"] != "gap"]
        log = book_log_from(rows.filter([row["kind"] != "gap" for row in rows.to_pylist()]))
        assert kept
        book = BookReplay(log).advance(int(log.known_at[-1]))
        truth = book_at(market.book_log(), world.now)
        assert book is not None
        assert truth is not None
        assert {level.price: level.size for level in book.bids} == truth.bids
        assert {level.price: level.size for level in book.asks} == truth.asks


def test_what_is_recorded_becomes_the_books_of_the_world(world: World, tmp_path: Path) -> None:
    root, total = tmp_path / "frames", whole_life(world)
    terms = replace(QUICK, tokens_per_connection=1, rotation=Rotation(bytes=4000, sync_seconds=0.02))
    status = record(world, root, until=lambda now: now.acknowledged >= total, terms=terms)
    assert (status.received, status.acknowledged, status.connections) == (total, total, 2)
    assert (status.lost, status.awaited, status.problem) == (0, 0, "")
    assert len(segments(root)) == status.segments > 1
    lake, reported = read(world, root, tmp_path)
    assert (reported.frames, reported.unknown) == (total, frozenset())
    assert [each.error for each in reported.taken] == [None, None]
    for market in world.of_venue(Venue.POLYMARKET):
        key = str(market.market.key)
        rows, log = lake.read(BOOKS, key).to_pylist(), market.book_log()
        told = [row for row in rows if row["kind"] != "gap"]
        assert [row["kind"] == "reset" for row in told] == log.reset.tolist()
        levels = sorted((row["side"], row["price"], row["size"]) for row in told if row["kind"] == "level")
        sides = ("ask" if is_ask else "bid" for is_ask in log.is_ask[~log.reset])
        truth = zip(sides, log.price[~log.reset].tolist(), log.size[~log.reset].tolist(), strict=True)
        assert levels == sorted(truth)
        assert [row["kind"] for row in rows[-1:]] == ["gap"]  # the recorder stopped
        [coverage] = read_coverage(lake, BOOKS, key)
        assert (coverage.rows, coverage.gaps, coverage.reason) == (len(rows), 1, "")
    assert_ends_as_the_world(world, lake)


@pytest.mark.parametrize("reading", ["on", "anew"])
def test_a_recording_that_is_read_again_gives_the_same_rows(
    reading: str, world: World, tmp_path: Path
) -> None:
    root = tmp_path / "frames"
    record(world, root, until=lambda now: now.acknowledged >= 100)
    lake, first = read(world, root, tmp_path)
    keys = [each.market_key for each in first.taken]
    before = {key: lake.read(BOOKS, key).drop(["ingested_at"]) for key in keys}
    _, again = read(world, root, tmp_path, reading=reading)
    assert again.frames == (0 if reading == "on" else first.frames)
    for key in keys:
        assert lake.read(BOOKS, key).drop(["ingested_at"]).equals(before[key])


def test_a_recording_is_read_on_without_a_gap_while_it_is_made(world: World, tmp_path: Path) -> None:
    """Cut a recording at every flush: read in pieces it is the same as read at once."""
    root, pieces = tmp_path / "frames", tmp_path / "pieces"
    record(world, root, until=lambda now: now.acknowledged >= 300)
    [path] = segments(root)
    body, ends = path.read_bytes(), sorted({end for _, end in read_segment(path)})
    copy = pieces / path.parent.name / path.name
    copy.parent.mkdir(parents=True)
    chosen = [ends[0], *ends[2:-1:3], ends[-1]]
    lake = Lake(tmp_path / "by-piece", durability="rename")
    with the_only_recorder(pieces):  # it is still being made
        for end in chosen:
            copy.write_bytes(body[: end + 3])
            read_recording(lake, pieces, markets_of(world), now=1)
    whole, reported = read(world, root, tmp_path)
    for taken in reported.taken:
        assert (
            lake.read(BOOKS, taken.market_key)
            .drop(["ingested_at"])
            .equals(whole.read(BOOKS, taken.market_key).drop(["ingested_at"]))
        )


@pytest.mark.parametrize(
    ("fault", "losses", "gaps"),
    [
        (Fault.UNAVAILABLE, 1, 1),  # the connection is closed
        (Fault.STALL, 1, 1),  # and silent
        (Fault.OUT_OF_ORDER, 0, 1),
        (Fault.DUPLICATE_ROWS, 0, 0),
        (Fault.CUT_BODY, 0, 1),
    ],
)
def test_a_fault_of_the_channel_is_a_gap_and_never_a_wrong_book(
    fault: Fault, losses: int, gaps: int, world: World, tmp_path: Path
) -> None:
    root = tmp_path / "frames"
    total = whole_life(world)
    faults = Faults(plan=(Planned(fault, PATH),), dropped_delta=40)
    last = [time.monotonic(), 0]

    def settled(now: Status) -> bool:
        """Nothing new for a while, on an open connection that was lost as often as planned."""
        if now.received != last[1]:
            last[:] = time.monotonic(), now.received
        done = now.received >= total - 1 if not losses else time.monotonic() - last[0] > 1
        return now.lost == losses and now.open == 1 and now.acknowledged == now.received > 60 and done

    # the sandbox plays on into the silence: in two seconds all would be played
    terms = replace(QUICK, silence_s=0.3) if fault is Fault.STALL else QUICK
    status = record(world, root, until=settled, faults=faults, terms=terms)
    assert status.lost == losses
    lake, reported = read(world, root, tmp_path)
    seen = 0
    for taken in reported.taken:
        rows = lake.read(BOOKS, taken.market_key).to_pylist()
        found = [number for number, row in enumerate(rows) if row["kind"] == "gap"]
        seen = max(seen, len(found) - 1)
        for at in found[:-1]:
            assert rows[at + 1]["kind"] == "reset"
        assert (fault is Fault.CUT_BODY) == ("could not be read" in taken.coverage.reason)
    assert seen == gaps
    assert_ends_as_the_world(world, lake)


def test_a_process_that_stands_still_takes_that_for_nobodys_silence(world: World, tmp_path: Path) -> None:
    """A laptop that slept, or a disk that took its time, would cost a gap in every book."""
    stalls, total = iter([0.4] * 3), whole_life(world)

    def until(now: Status) -> bool:
        if now.received > 60:
            time.sleep(next(stalls, 0.0))
        return now.received >= total

    status = record(world, tmp_path, until=until, terms=replace(QUICK, silence_s=0.2, quiet_s=0.3))
    assert (status.lost, status.problem) == (0, "")


def test_a_channel_that_only_answers_pings_is_frozen(world: World, tmp_path: Path) -> None:
    terms = replace(QUICK, quiet_s=0.2)
    status = record(world, tmp_path, until=lambda now: now.lost > 0 and now.open == 1, terms=terms)
    assert status.problem == "frozen: only pings were answered for 0.2 s"
    told = [line for line in lines_of(tmp_path) if line.what in {"open", "lost"}]
    assert [what for what, _ in groupby(line.what for line in told)][:3] == ["open", "lost", "open"]


def test_a_market_without_a_book_is_awaited_and_a_foreign_one_is_named(world: World, tmp_path: Path) -> None:
    async def run() -> Status:
        async with open_market_channel("sandbox", sandbox_app=build_app(world)) as (http, url):
            recorder = Recorder(http, url, [*tokens_of(markets_of(world)), "404"], tmp_path / "f", QUICK)
            stop = asyncio.Event()
            running = asyncio.create_task(recorder.run(stop))
            while recorder.status().awaited != 1:
                await asyncio.sleep(0.01)
            stop.set()
            return await running

    assert asyncio.run(run()).awaited == 1
    _, reported = read(world, tmp_path / "f", tmp_path)
    assert reported.unknown == {"404"}


def test_a_venue_that_refuses_is_asked_again(world: World, tmp_path: Path) -> None:
    async def run() -> Status:
        async with open_market_channel("sandbox", sandbox_app=build_app(world)) as (http, url):
            recorder = Recorder(http, url.replace("/ws/market", "/ws/nothing"), ["1"], tmp_path, QUICK)
            stop = asyncio.Event()
            running = asyncio.create_task(recorder.run(stop))
            while not recorder.status().problem:
                await asyncio.sleep(0.01)
            stop.set()
            return await running

    status = asyncio.run(run())
    assert (status.open, status.received, status.lost) == (0, 0, 0)
    assert status.problem


def test_a_network_that_breaks_is_a_lost_connection(world: World, tmp_path: Path) -> None:
    """A proxy on a real port that cuts what runs through it, without a word of farewell."""
    writers: list[asyncio.StreamWriter] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)

    async def run() -> Status:
        with running_server(build_app(world)) as address:
            port = int(address.rpartition(":")[2])

            async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))

            proxy = await asyncio.start_server(through, "127.0.0.1", 0)
            near = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
            async with open_market_channel("sandbox", sandbox_url=near) as (http, url):
                recorder = Recorder(http, url, tokens_of(markets_of(world)), tmp_path, QUICK)
                stop = asyncio.Event()
                running = asyncio.create_task(recorder.run(stop))
                while not recorder.status().received:
                    await asyncio.sleep(0.01)
                for writer in writers:
                    writer.transport.abort()
                while not recorder.status().lost or not recorder.status().open:
                    await asyncio.sleep(0.01)
                stop.set()
                status = await running
            proxy.close()
            return status

    status = asyncio.run(run())
    assert status.lost == 1
    assert [line.text for line in lines_of(tmp_path) if line.what == "lost"] == [status.problem]


@pytest.mark.parametrize("at", ["the handshake", "the subscription", "a ping"])
@pytest.mark.parametrize("code", [1000, 1001, 1012, None])
def test_a_venue_that_closes_while_something_is_sent_to_it_is_a_lost_connection(
    at: str, code: int | None, tmp_path: Path
) -> None:
    """A server that says goodbye and leaves the line open, as the protocol has it, while we still send."""
    wanted = {"the handshake": 0, "the subscription": 1, "a ping": 2}[at]
    reason = b"" if code is None else code.to_bytes(2, "big")

    async def goodbye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = WSConnection(ConnectionType.SERVER)
        heard = 0
        with suppress(OSError):
            while data := await reader.read(65_536):
                protocol.receive_data(data)
                for event in protocol.events():
                    if isinstance(event, Request):
                        writer.write(protocol.send(AcceptConnection()))
                    heard += isinstance(event, Request | TextMessage)
                if heard > wanted:
                    writer.write(bytes([0x88, len(reason)]) + reason)
                await writer.drain()
        writer.close()

    async def run() -> Status:
        server = await asyncio.start_server(goodbye, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with httpx.AsyncClient(trust_env=False) as http:
            terms = replace(QUICK, ping_s=0.001, silence_s=5)
            recorder = Recorder(http, f"ws://127.0.0.1:{port}/ws/market", ["1"], tmp_path, terms)
            stop = asyncio.Event()
            running = asyncio.create_task(recorder.run(stop))
            while not running.done() and recorder.status().lost < 5:
                await asyncio.sleep(0.01)
            stop.set()
            status = await running
        server.close()
        return status

    assert asyncio.run(run()).lost >= 5


FIRST, SECOND = "1", "2"
AT = 1_750_000_000_000_000_000


def session(root: Path, texts: Iterable[Any], tokens: Sequence[str], start: int) -> None:
    """What a recorder writes that is killed after these frames, each in a segment of its own."""

    async def run() -> None:
        opened = Line(start, start, "open", tokens=list(tokens))
        now = iter(range(start, start + 10**12, MS))
        writer = SegmentWriter(root, Rotation(bytes=1), carried=lambda: [opened], clock=lambda: next(now))
        await writer.put(opened)
        for text in texts:
            await writer.put(Line(start + int(text["timestamp"]) % 1000 * MS, start, text=json.dumps(text)))
            await writer.flush()
        writer.close()

    asyncio.run(run())


def two_markets() -> list[Market]:
    """Markets whose tokens of outcome 0 are ``FIRST`` and ``SECOND``."""
    return [
        replace(
            MARKET,
            key=MARKET.key._replace(native_id=token),
            instruments=tuple(
                replace(
                    i, market_key=MARKET.key._replace(native_id=token), token_id=token + "0" * i.outcome_index
                )
                for i in MARKET.instruments
            ),
        )
        for token in (FIRST, SECOND)
    ]


def read_while_recorded(root: Path, tmp_path: Path) -> dict[str, str]:
    """The kinds of the rows of each market, read while a recorder is at work."""
    lake, markets = Lake(tmp_path / "lake", durability="rename"), two_markets()
    with the_only_recorder(root):
        read_recording(lake, root, markets, now=1)
    return {
        market.key.native_id: "".join(row["kind"][0] for row in lake.read(BOOKS, str(market.key)).to_pylist())
        for market in markets
        if lake.exists(BOOKS, str(market.key))
    }


@pytest.mark.parametrize("missing", [0, 1, 2, None])
def test_a_segment_that_is_missing_is_a_gap(missing: int | None, tmp_path: Path) -> None:
    root = tmp_path / "frames"
    frames = [book(1), change(2, "BUY0.4x5"), change(3, "BUY0.4x6"), change(4, "BUY0.4x7")]
    session(root, frames, [FIRST], AT)
    if missing is not None:
        segments(root)[missing].unlink()
    rows = {0: "", 1: "rllg", 2: "rlllg", None: "rlllll"}[missing]
    assert read_while_recorded(root, tmp_path).get(FIRST, "") == rows


def test_a_segment_that_was_cut_short_is_a_gap_and_what_stands_before_is_kept(tmp_path: Path) -> None:
    root = tmp_path / "frames"
    session(root, [book(1), change(2, "BUY0.4x5"), change(3, "BUY0.4x6")], [FIRST], AT)
    path = segments(root)[1]
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(DamagedSegmentError, match="`truncate -s 0` keeps what stands before it"):
        read_while_recorded(root, tmp_path)
    os.truncate(path, 0)
    assert read_while_recorded(root, tmp_path) == {FIRST: "rllg"}


def test_a_recorder_that_begins_anew_ends_the_books_that_it_does_not_follow(tmp_path: Path) -> None:
    """The one before it was killed, and followed more: nobody watches the first market any longer."""
    root = tmp_path / "frames"
    session(root, [book(1, token=FIRST), book(2, token=SECOND)], [FIRST, SECOND], AT)
    assert read_while_recorded(root, tmp_path) == {FIRST: "rll", SECOND: "rll"}
    session(root, [book(9, token=SECOND)], [SECOND], AT + MINUTE)
    assert read_while_recorded(root, tmp_path) == {FIRST: "rllg", SECOND: "rllgrll"}


def test_a_place_that_is_damaged_is_named_and_a_reading_anew_mends_it(world: World, tmp_path: Path) -> None:
    root = tmp_path / "frames"
    terms = replace(QUICK, rotation=Rotation(bytes=3000, sync_seconds=0.02))
    record(world, root, until=lambda now: now.segments >= 3, terms=terms)
    read(world, root, tmp_path)
    _, again = read(world, root, tmp_path)
    assert again.frames == 0
    (root / "read.json").write_text("{")
    with pytest.raises(UsageError, match="read the recording anew"):
        read(world, root, tmp_path)
    _, anew = read(world, root, tmp_path, reading="anew")
    assert anew.frames == len([line for line in lines_of(root) if line.what == "frame"])


def test_a_disk_that_fails_ends_the_recording(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int, data: bytes) -> int:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(StorageError, match="the disk is full; free some space and run again"):
        record(world, tmp_path, until=lambda now: False)


@pytest.mark.parametrize("count", [0, 501])
def test_a_connection_carries_as_many_tokens_as_the_venue_serves(count: int) -> None:
    with pytest.raises(UsageError, match="1 to 500 tokens"):
        Terms(tokens_per_connection=count)


def test_there_is_one_recorder_of_a_folder(tmp_path: Path) -> None:
    with the_only_recorder(tmp_path), pytest.raises(UsageError, match="another recorder"):
        module.the_only_recorder(tmp_path).__enter__()


def start(folder: Path, url: str, *options: str) -> "subprocess.Popen[str]":
    """``bt record polymarket`` as a process, on a sandbox that listens on a port."""
    environment = scratch_environment(folder) | {"PM_SANDBOX_URL": url, "PM_SOURCE": "sandbox"}
    command = [sys.executable, "-m", "pm_pipeline", "record", "polymarket", "--json", *options]
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def fill_catalog(lake: Lake, found: Sequence[Market], day: str = "2026-06-30") -> None:
    """Write what was read of the catalog on a day."""
    at = parse_time(day)
    markets, instruments = markets_to_tables(found, known_at=at, ingested_at=at)
    lake.write("catalog.instruments", day, instruments)
    lake.write("catalog.markets", day, markets)


def lake_in(folder: Path) -> Lake:
    """The lake of a process that :func:`start` starts."""
    return Lake(folder / "data" / "sandbox-small_world" / "lake", durability="rename")


def status_of(process: "subprocess.Popen[str]", wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first status line that is wanted; a recorder that has none in a minute is killed."""
    assert process.stdout is not None
    limit = threading.Timer(60, process.kill)
    limit.start()
    last = ""
    try:
        for last in process.stdout:
            status: dict[str, Any] = json.loads(last)
            if wanted(status):
                return status
    finally:
        limit.cancel()
    raise AssertionError(f"the recorder ended: {last}{process.stderr.read() if process.stderr else ''}")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_every_acknowledged_frame_is_there_however_a_real_recorder_ends(
    how: signal.Signals, world: World, tmp_path: Path
) -> None:
    fill_catalog(lake_in(tmp_path), markets_of(world))
    root = tmp_path / "data" / "sandbox-small_world" / "frames" / "polymarket"
    with running_server(build_app(world)) as url:
        options = ["--status-s", "0.05", "--sync-s", "0.05", "--tokens-per-connection", "1"]
        process = start(tmp_path, url, *options)
        try:
            told = status_of(process, lambda status: status["acknowledged"] >= 60)
            process.send_signal(how)
            rest, problem = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
    for line in rest.splitlines():
        told = json.loads(line) if line.endswith("}") else told
    assert process.returncode == (-signal.SIGKILL if how is signal.SIGKILL else 0), problem
    lines = lines_of(root)
    kept = [line for line in lines if line.what == "frame"]
    assert len(kept) >= told["acknowledged"]
    if how is not signal.SIGKILL:
        assert (lines[-1].what, len(kept)) == ("stop", told["received"])
    for token in tokens_of(markets_of(world)):  # each is the beginning of what the sandbox sent
        frames = [json.loads(line.text) for line in kept]
        names = world.by_token[token].market.market.condition_id
        own = [frame for frame in frames if frame["market"] == names]
        assert own == frames_in(world, token)[: len(own)]
    lake, reported = read(world, root, tmp_path)
    assert reported.frames == len(kept)
    for taken in reported.taken:
        assert lake.read(BOOKS, taken.market_key)["kind"][-1].as_py() == "gap"


def test_nothing_to_record_says_what_to_do(tmp_path: Path) -> None:
    process = start(tmp_path, "http://127.0.0.1:9")
    _, problem = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "no market to record" in problem


def test_the_mirror_of_a_book_is_the_book_of_the_other_token(world: World) -> None:
    [market, *_] = world.of_venue(Venue.POLYMARKET)
    yes, no = (
        frames_of(Token(market, outcome), str(market.market.instruments[outcome].token_id))
        for outcome in (0, 1)
    )
    (_, _, first), (_, _, second) = next(yes), next(no)
    mirrored = [{"price": f"{1 - float(x['price']):.6g}", "size": x["size"]} for x in first["asks"]]  # type: ignore[attr-defined]
    assert second["bids"] == mirrored
