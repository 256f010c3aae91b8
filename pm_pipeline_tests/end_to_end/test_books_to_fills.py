"""From frames to fills: an order is filled while the book was watched, and at no other moment.

Any recording, with connections that break, frames that come late, twice, out of order or as nonsense, and
recorders that begin anew, is read into the lake and played by the engine.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pm_pipeline.engine.kernel import NewOrder, Session
from pm_pipeline.engine.kernel.reader import StoredStream
from pm_pipeline.markets import MICRO, Side
from pm_pipeline.sources.book_log import BOOKS
from pm_pipeline.sources.polymarket.books.recordings import read_recording
from pm_pipeline.sources.polymarket.books.segments import Line, Rotation, SegmentWriter
from pm_pipeline.sources.sandbox.plans import CENT
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline_tests.sources.polymarket.books.test_frames import MS, START, book, change, ticks
from pm_pipeline_tests.sources.polymarket.material import MARKET

KEY, TOKEN = str(MARKET.key), str(MARKET.instruments[0].token_id)
DEEP = "0.6x1000000"
Frame = tuple[str, int]
"""What came, and the millisecond that it bears."""

BREAKS = ("nonsense", "impossible", "ticks", "lost", "killed")
"""After these nobody can tell how the book stands."""

STEPS = st.tuples(
    st.sampled_from(["book", "change", "change", "change", "late", "swap", "twice", *BREAKS]),
    st.integers(1, 4),
)


def frames_of(steps: Sequence[tuple[str, int]]) -> list[Frame]:
    """The frames of a recording, whose time goes on by the number of each step."""
    now, found = 0, []
    for what, step in steps:
        now += step
        if what == "swap":
            found += [("change", now), ("change", now - 1)]
        elif what == "twice":
            found += [("change", now)] * 2
        elif what == "late":
            found += [("book", max(now - 9, 0))]
        else:
            found += [(what, now)]
    return found


def lines_of(frames: Sequence[Frame]) -> Iterator[list[Line]]:
    """The lines of each recorder: a new one begins where one was killed."""
    came, connection = START * MS, 1
    lines = [Line(came, 1, "open", tokens=[TOKEN])]
    for what, at in frames:
        came = max(came, (START + at) * MS + MS // 3)
        if what in {"lost", "killed"}:
            if what == "lost":
                lines.append(Line(came, connection, "lost", tokens=[TOKEN]))
            else:
                yield lines
                lines = []
            connection += 1
            lines.append(Line(came, connection, "open", tokens=[TOKEN]))
            continue
        text = {
            "book": json.dumps(book(at, "0.4x10", DEEP, TOKEN)),
            "change": json.dumps(change(at, f"BUY0.4x{at + 1}", f"SELL0.7x{at + 1}", token=TOKEN)),
            "impossible": json.dumps(change(at, "BUY1.5x1", token=TOKEN)),
            "ticks": json.dumps(ticks(at, TOKEN)),
            "nonsense": "INVALID OPERATION",
        }[what]
        lines.append(Line(came, connection, text=text))
    yield [*lines, Line(came, 0, "stop", tokens=[TOKEN])]


def watched(frames: Sequence[Frame]) -> list[tuple[int, int]]:
    """When the book is known: from a message to the next one that is believed, with nothing amiss between."""
    spans: list[tuple[int, int]] = []
    last, known = -1, False
    for what, at in frames:
        if what in BREAKS or at < last:
            known = False
        elif what == "book" or known:
            if known:
                spans.append((last, at))
            last, known = at, True
    return spans


async def write(root: Path, frames: Sequence[Frame]) -> None:
    for lines in lines_of(frames):
        writer = SegmentWriter(root, Rotation(), clock=lambda lines=lines: lines[0].at)  # type: ignore[misc]
        for line in lines:
            await writer.put(line)
        await writer.flush()
        writer.close()


@settings(max_examples=120, deadline=None)
@given(st.lists(STEPS, max_size=25))
@example([("book", 1), ("change", 1), ("lost", 1), ("change", 1), ("book", 1), ("change", 2)])
@example([("book", 9), ("change", 9), ("killed", 3), ("late", 1), ("change", 1), ("book", 1), ("change", 1)])
@example([("book", 2), ("swap", 2), ("change", 2), ("late", 1), ("book", 1), ("twice", 1), ("change", 1)])
def test_an_order_is_filled_while_its_book_is_watched_and_at_no_other_time(steps: list[Frame]) -> None:
    frames = frames_of(steps)
    moments = range(sum(step for _, step in steps) + 3)  # half a millisecond after each of these
    with TemporaryDirectory() as folder:
        root, lake = Path(folder) / "frames", Lake(Path(folder) / "lake", durability="rename")
        asyncio.run(write(root, frames))
        read_recording(lake, root, [MARKET], now=time.time_ns())
        filled: set[int] = set()
        if lake.exists(BOOKS, KEY) and lake.read(BOOKS, KEY).num_rows:
            session = Session(StoredStream.of(lake, KEY, [(0, CENT)], trades=False))
            for moment in moments:
                session.submit(NewOrder(side=Side.BUY, size=MICRO), (START + moment) * MS + MS // 2)
            session.advance()
            filled = set(session.fills["order"].tolist())
    assert filled == {n for n in moments if any(start <= n < end for start, end in watched(frames))}
