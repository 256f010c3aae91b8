"""Raw frames on disk: what was acknowledged is there, whatever becomes of the end of a file."""

import asyncio
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import zstandard

from pm_pipeline.sources.polymarket.books import segments as module
from pm_pipeline.sources.polymarket.books.segments import (
    DamagedSegmentError,
    Line,
    Rotation,
    SegmentWriter,
    read_segment,
    segments,
)
from pm_pipeline.warehouse.files import StorageError


def write(root: Path, batches: Sequence[Sequence[str]], rotation: Rotation | None = None) -> SegmentWriter:
    """Each batch is one flush; the clock moves a second with each line and each flush."""
    now = iter(range(10**18, 10**18 + 10**15, 10**9))
    writer = SegmentWriter(
        root,
        rotation or Rotation(),
        carried=lambda: [Line(0, 7, "open", tokens=["1"])],
        clock=lambda: next(now),
    )

    async def run() -> None:
        for batch in batches:
            for text in batch:
                await writer.put(Line(next(now), 7, text=text))
            await writer.flush()
        writer.close()

    asyncio.run(run())
    return writer


def texts(path: Path, start: int = 0) -> list[str]:
    return [line.text for line, _ in read_segment(path, start) if line.what == "frame"]


def test_frames_are_acknowledged_when_they_are_on_the_disk(tmp_path: Path) -> None:
    writer = write(tmp_path, [["a", "b"], [], ["ü\n{}"]])
    assert (writer.received, writer.acknowledged, writer.segments) == (3, 3, 1)
    [path] = segments(tmp_path)
    assert texts(path) == ["a", "b", "ü\n{}"]
    assert writer.written == path.stat().st_size
    assert writer.path == path


def test_a_torn_end_costs_only_the_flush_that_was_torn(tmp_path: Path) -> None:
    write(tmp_path, [["a", "b"], ["c"], ["d", "e"]])
    [path] = segments(tmp_path)
    ends = sorted({end for _, end in read_segment(path)})
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        kept = sum(size >= end for end in ends)
        assert texts(path) == ["a", "b", "c", "d", "e"][: (0, 2, 3, 5)[kept]]


def test_reading_goes_on_from_where_it_ended(tmp_path: Path) -> None:
    write(tmp_path, [["a", "b"], ["c"], ["d"]])
    [path] = segments(tmp_path)
    ends = sorted({end for _, end in read_segment(path)})
    assert [texts(path, end) for end in ends] == [["c", "d"], ["d"], []]


@pytest.mark.parametrize(
    ("rotation", "count"),
    [(Rotation(bytes=1), 3), (Rotation(seconds=1.5), 3), (Rotation(seconds=4), 2), (Rotation(), 1)],
)
def test_a_full_or_old_segment_is_followed_by_a_new_one(
    rotation: Rotation, count: int, tmp_path: Path
) -> None:
    write(tmp_path, [["a"], ["b"], ["c"]], rotation)
    paths = segments(tmp_path)
    assert len(paths) == count
    assert [text for path in paths for text in texts(path)] == ["a", "b", "c"]
    former = ""
    for path in paths:  # each says what it continues, and who is connected to what
        begin, connected, *_ = (line for line, _ in read_segment(path))
        assert (begin.what, begin.text) == ("begin", former)
        assert connected == Line(0, 7, "open", tokens=["1"])
        former = f"{path.name} {path.stat().st_size}"


def test_a_clock_that_was_set_back_names_no_segment_before_another(tmp_path: Path) -> None:
    now = 10**18

    async def run(*texts: str) -> None:
        nonlocal now
        writer = SegmentWriter(tmp_path, Rotation(), clock=lambda: now)
        for text in texts:
            await writer.put(Line(now, 7, text=text))
            await writer.flush()
            now -= 10**9
        writer.close()

    asyncio.run(run("a", "b"))
    asyncio.run(run("c"))
    assert [text for path in segments(tmp_path) for text in texts(path)] == ["a", "b", "c"]
    assert len(segments(tmp_path)) == 3


@pytest.mark.parametrize("place", [0, 30])
def test_a_damaged_segment_is_named(place: int, tmp_path: Path) -> None:
    write(tmp_path, [["a" * 50], ["b"]])
    [path] = segments(tmp_path)
    body = bytearray(path.read_bytes())
    body[place] ^= 0xFF
    path.write_bytes(body)
    with pytest.raises(DamagedSegmentError, match="is damaged at byte 0"):
        texts(path)


def test_a_line_of_somebody_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(zstandard.compress(b'{"no": "line"}\n'))
    with pytest.raises(DamagedSegmentError, match="holds a line that no recorder wrote"):
        texts(path)
    with pytest.raises(StorageError, match="cannot read"):
        texts(tmp_path / "none")


def test_a_full_disk_is_an_error_and_what_was_acknowledged_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        return real(descriptor, data[: len(data) // 2])

    async def run() -> SegmentWriter:
        writer = SegmentWriter(tmp_path, Rotation(sync_seconds=0.001))
        await writer.put(Line(1, 1, text="a"))
        await writer.flush()
        monkeypatch.setattr(os, "write", full)
        await writer.put(Line(2, 1, text="b"))
        with pytest.raises(StorageError, match="the disk is full"):
            await writer.run()
        writer.close()
        return writer

    writer = asyncio.run(run())
    assert (writer.received, writer.acknowledged) == (2, 1)
    [path] = segments(tmp_path)
    assert texts(path) == ["a"]
    assert {end for _, end in read_segment(path)} == {path.stat().st_size}


def test_a_write_that_has_begun_is_finished_and_counted_when_its_task_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    real = os.fsync

    def slow(descriptor: int) -> None:
        begun.set()
        go.wait(10)
        real(descriptor)

    async def run() -> SegmentWriter:
        writer = SegmentWriter(tmp_path, Rotation())
        await writer.put(Line(1, 1, text="a"))
        monkeypatch.setattr(os, "fsync", slow)
        flushing = asyncio.create_task(writer.flush())
        await asyncio.to_thread(begun.wait, 10)
        flushing.cancel()
        await asyncio.wait({flushing})
        await writer.put(Line(2, 1, text="b"))
        go.set()
        await writer.flush()
        writer.close()
        return writer

    assert asyncio.run(run()).acknowledged == 2
    [path] = segments(tmp_path)
    assert texts(path) == ["a", "b"]


def test_reading_from_the_sockets_waits_for_a_disk_that_is_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 10)

    async def run() -> list[bool]:
        writer = SegmentWriter(tmp_path, Rotation())
        await writer.put(Line(1, 1, text="a" * 20))
        waiting = asyncio.create_task(writer.put(Line(2, 1, text="b")))
        await asyncio.sleep(0)
        before = waiting.done()
        await writer.flush()
        await waiting
        await writer.flush()
        writer.close()
        return [before, waiting.done()]

    assert asyncio.run(run()) == [False, True]
    assert texts(segments(tmp_path)[0]) == ["a" * 20, "b"]
