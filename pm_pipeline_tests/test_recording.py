"""``bt record`` and ``bt import`` as a user calls them, and what docs/polymarket.md promises of them."""

import asyncio
import json
import os
import re
import signal
import threading
from pathlib import Path

import pytest

from pm_pipeline.defs.catalog.assets import read_catalog, write_catalog
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.book_log import BOOKS
from pm_pipeline.sources.polymarket.books.archives import LAYOUTS
from pm_pipeline.sources.polymarket.books.recorder import MOST_TOKENS, Terms, the_only_recorder
from pm_pipeline.sources.polymarket.books.segments import segments
from pm_pipeline.universe import Universe
from pm_pipeline_tests.processes import ROOT
from pm_pipeline_tests.sources.polymarket.books.test_frames import book, change
from pm_pipeline_tests.workdir import Workdir

PAGE = (ROOT / "docs" / "polymarket.md").read_text()


@pytest.fixture
def listed(empty: Workdir) -> Workdir:
    """An empty lake with the catalog of the small world."""
    workspace = Workspace()
    reading = asyncio.run(read_catalog(workspace, Universe.everything()))
    write_catalog(workspace, ["2026-06-30"], reading)
    return empty


def some_market() -> Market:
    return next(m for m in Workspace().catalog.markets().values() if m.key.venue is Venue.POLYMARKET)


def token_of(market: Market) -> str:
    return str(market.instruments[0].token_id)


def record_for(listed: Workdir, seconds: float, *words: str) -> tuple[int, str]:
    """Record in this process and end it as Ctrl-C does."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        result = listed.bt("record", "polymarket", "--sync-s", "0.05", "--status-s", "0.05", *words)
    finally:
        timer.cancel()
    return result.exit_code, result.output


def test_the_universe_is_recorded_until_interrupted(listed: Workdir) -> None:
    code, output = record_for(listed, 0.6)
    assert code == 0, output
    found = re.findall(r"^SANDBOX SMALL_WORLD: (\d+) frames acknowledged of (\d+), 1 of 1 conn", output, re.M)
    assert found[-1][0] == found[-1][1] != "0"
    assert len(segments(listed.settings.frames_dir)) == 1


def test_a_named_market_is_recorded_with_its_status_as_json(listed: Workdir) -> None:
    code, output = record_for(listed, 0.4, "--json", "-m", str(some_market().key))
    assert code == 0, output
    last = json.loads(output.splitlines()[-1])
    assert last["received"] == last["acknowledged"] > 0


@pytest.mark.parametrize(
    ("words", "is_followed"),
    [
        (("--follow-s", "0.05"), True),
        (("--follow-s", "0"), False),
        (("--follow-s", "0.05", "-m", "small-open-2026-07-03"), False),
    ],
)
def test_the_universe_is_followed_unless_it_is_switched_off_or_markets_are_named(
    words: tuple[str, ...], is_followed: bool, listed: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def look() -> None:
        if not ended.is_set():
            ended.set()
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("pm_pipeline.recording.catalog_look", lambda settings: look)
    code, output = record_for(listed, 60 if is_followed else 0.4, *words)
    assert code == 0, output
    assert ended.is_set() == is_followed
    assert re.search(r"1 of 1 connections, 1 tokens watched of 1 markets, 0 times lost", output)


def test_a_second_recorder_is_refused(listed: Workdir) -> None:
    with the_only_recorder(listed.settings.frames_dir):
        result = listed.bt("record", "polymarket")
    assert result.exit_code == 2
    assert "another recorder writes to" in result.output


def test_a_full_disk_ends_the_recorder_with_its_reason(
    listed: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int, data: bytes) -> int:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("pm_pipeline.sources.polymarket.books.segments.os.write", fail)
    result = listed.bt("record", "polymarket", "--sync-s", "0.05")
    assert result.exit_code == 1
    assert "the disk is full; free some space and run again" in result.output
    assert re.search(r"0 frames acknowledged of \d+", result.output)


def test_recorded_frames_are_imported(listed: Workdir, tmp_path: Path) -> None:
    market = some_market()
    frames = [book(1, token=token_of(market)), change(2, "BUY0.4x5", token=token_of(market))]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(frame) + "\n" for frame in frames))
    result = listed.bt("import", str(path))
    assert result.exit_code == 0, result.output
    assert "SANDBOX SMALL_WORLD: 2 messages of 1 markets imported" in result.output
    assert f"{market.key}: 5 rows, 1 gaps" in result.output
    assert listed.lake.read(BOOKS, str(market.key)).num_rows == 5
    shorter = tmp_path / "y.jsonl"
    shorter.write_text(json.dumps(frames[0]) + "\n" + json.dumps({**frames[1], "timestamp": "1750000000003"}))
    again = listed.bt("import", str(shorter), "-m", str(market.key))
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none.jsonl",), "there is no file none.jsonl"),
        (("foreign.jsonl",), "hold no market of the catalog"),
        (("foreign.jsonl", "-m", "nothing-such"), "no market is known as"),
    ],
)
def test_what_cannot_be_imported_says_why(
    words: tuple[str, ...], message: str, listed: Workdir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foreign.jsonl").write_text(json.dumps(book(1, token="404")))
    result = listed.bt("import", *words)
    assert result.exit_code == 2, result.output
    assert message in result.output


def test_an_import_that_would_lose_rows_fails(listed: Workdir, tmp_path: Path) -> None:
    token = token_of(some_market())
    path = tmp_path / "x.jsonl"
    for times in ((1, 2, 3), (1, 3)):
        frames = [book(times[0], token=token), *(change(at, f"BUY0.4x{at}", token=token) for at in times[1:])]
        path.write_text("".join(json.dumps(frame) + "\n" for frame in frames))
        result = listed.bt("import", str(path))
    assert result.exit_code == 1
    assert "1 of 1 markets were not written; their former rows stay" in result.output


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_the_page_names_the_columns_of_every_layout(layout: object) -> None:
    columns = ", ".join(f"`{name}`" for name in layout.columns)  # type: ignore[attr-defined]
    assert f", `.parquet` | {columns} |" in PAGE


def test_the_page_names_the_recorders_terms() -> None:
    terms = Terms()
    for text in (
        f"`--tokens-per-connection` ({terms.tokens_per_connection}) markets on each; beyond {MOST_TOKENS}",
        f"`PING` each {terms.ping_s:g} s",
        f"nothing for {terms.silence_s:g} s",
        f"only `PONG` for {terms.quiet_s / 60:g} minutes",
        f"at most {terms.backoff_s:g} s, doubled up to {terms.backoff_max_s:g} s",
        f"each `--sync-s` ({terms.rotation.sync_seconds:g} s)",
        f"each `--follow-s` ({terms.follow_s:g} s)",
        f"`--rotate-mb` ({terms.rotation.bytes >> 20}) or `--rotate-s` ({terms.rotation.seconds:g})",
    ):
        assert text in PAGE, text
