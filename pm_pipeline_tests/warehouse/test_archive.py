import json
import multiprocessing
import os
from pathlib import Path

import pytest
import zstandard

from pm_pipeline.warehouse import ArchiveError, PageArchive, StorageError, canonical_request
from pm_pipeline_tests.warehouse.builders import T0

REQUEST = "GET https://example.test/markets?limit=2"


def put(archive: PageArchive, body: bytes = b"[1, 2]", at: int = T0, request: str = REQUEST) -> None:
    archive.put(request, body, status=200, headers={"Content-Type": "application/json"}, at=at)


def log_of(archive: PageArchive) -> Path:
    [path] = (archive.root / "requests").glob("*/*.jsonl")
    return path


def page_of(archive: PageArchive) -> Path:
    [path] = (archive.root / "pages").glob("*/*.zst")
    return path


def test_a_page_is_read_back_as_it_arrived(tmp_path: Path) -> None:
    archive = PageArchive(tmp_path)
    body = bytes(range(256)) * 100
    kept = archive.put(
        REQUEST,
        body,
        status=429,
        headers={"Retry-After": "3", "SET-Cookie": "s=1", "Authorization": "x"},
        at=T0,
    )
    page = PageArchive(tmp_path).get(REQUEST)
    assert page == kept
    assert page is not None
    assert (page.body, page.status, page.at, page.size) == (body, 429, T0, 25_600)
    assert page.headers == {"retry-after": "3"}
    assert archive.get("GET https://example.test/other") is None
    assert list(archive.history("GET https://example.test/other")) == []


def test_the_latest_answer_counts_and_all_are_kept(tmp_path: Path) -> None:
    archive = PageArchive(tmp_path)
    for body, at in [(b"first", T0), (b"third", T0 + 2), (b"second", T0 + 1), (b"same time", T0 + 2)]:
        put(archive, body, at)
    latest = archive.get(REQUEST)
    assert latest is not None
    assert latest.body == b"same time"
    assert [page.body for page in archive.history(REQUEST)] == [b"first", b"third", b"second", b"same time"]


def test_a_session_is_given_the_first_answer_since_it_began(tmp_path: Path) -> None:
    archive = PageArchive(tmp_path)
    for body, at in [(b"third", T0 + 2), (b"first", T0), (b"second", T0 + 1), (b"same time", T0 + 1)]:
        put(archive, body, at)
    given = [archive.get(REQUEST, T0 + since) for since in (-1, 0, 1, 2, 3)]
    assert [page and page.body for page in given] == [b"first", b"first", b"second", b"third", None]
    assert archive.moments(REQUEST) == [T0, T0 + 1, T0 + 2]
    assert archive.moments("GET https://example.test/other") == []


def test_the_same_body_is_stored_once(tmp_path: Path) -> None:
    archive = PageArchive(tmp_path)
    put(archive, at=T0)
    first = page_of(archive).stat()
    put(archive, at=T0 + 1)
    put(archive, request="GET https://example.test/mirror")
    assert page_of(archive).stat().st_mtime_ns == first.st_mtime_ns
    entries = list(archive.entries())
    assert len(entries) == 3
    assert {entry.request for entry in entries} == {REQUEST, "GET https://example.test/mirror"}
    assert all(archive.open(entry).body == b"[1, 2]" for entry in entries)


@pytest.mark.parametrize("torn", ["{", '{"request": "GET', '{"a": 1}', "x" * 10_000])
def test_a_line_torn_by_a_kill_is_ignored_and_repaired(tmp_path: Path, torn: str) -> None:
    archive = PageArchive(tmp_path)
    put(archive, b"whole", T0)
    with log_of(archive).open("a") as log:
        log.write(torn)
    assert [page.body for page in archive.history(REQUEST)] == [b"whole"]
    put(archive, b"next", T0 + 1)
    assert [page.body for page in archive.history(REQUEST)] == [b"whole", b"next"]
    assert torn not in log_of(archive).read_text().splitlines()


def test_a_log_of_nothing_but_a_torn_line_is_repaired(tmp_path: Path) -> None:
    archive = PageArchive(tmp_path)
    put(archive, b"whole", T0)
    log_of(archive).write_text('{"request": ')
    assert archive.get(REQUEST) is None
    put(archive, b"next", T0 + 1)
    assert [page.body for page in archive.history(REQUEST)] == [b"next"]


def _rot(path: Path) -> None:
    path.write_bytes(b"not zstd")


def _swap(path: Path) -> None:
    path.write_bytes(zstandard.ZstdCompressor().compress(b"[1, 3]"))


@pytest.mark.parametrize("damage", [_rot, _swap, Path.unlink])
def test_a_damaged_body_is_never_returned(tmp_path: Path, damage: object) -> None:
    archive = PageArchive(tmp_path)
    put(archive)
    assert callable(damage)
    damage(page_of(archive))
    with pytest.raises(ArchiveError, match=r"\.zst .*remove the file and fetch that request again"):
        archive.get(REQUEST)


def test_a_damaged_line_within_a_log_is_an_error_that_names_it(tmp_path: Path) -> None:
    archive = PageArchive(tmp_path)
    put(archive)
    path = log_of(archive)
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(ArchiveError, match=r"line 1 of .*\.jsonl is damaged"):
        archive.get(REQUEST)


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = PageArchive(tmp_path)
    put(archive, b"whole", T0)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, line: write(fd, line[:7]))
    with pytest.raises(StorageError, match="the disk is full"):
        put(archive, b"next", T0 + 1)
    monkeypatch.undo()
    assert [json.loads(line)["at"] for line in log_of(archive).read_text().splitlines()] == [T0]


def _put_many(root: Path, number: int) -> None:
    archive = PageArchive(root)
    for n in range(25):
        put(archive, f"{number}-{n % 5}".encode() * 1000, T0 + n)


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_put_many, args=(tmp_path, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    archive = PageArchive(tmp_path)
    assert len(list(archive.history(REQUEST))) == 100
    assert len(list((tmp_path / "pages").glob("*/*.zst"))) == 20
    assert not list(tmp_path.rglob(".tmp-*"))


@pytest.mark.parametrize(
    ("method", "url", "body", "text"),
    [
        ("get", "HTTPS://Example.TEST/a?b=2&a=1", None, "GET https://example.test/a?a=1&b=2"),
        (
            "GET",
            "https://example.test/a?id=2&id=1&empty=",
            None,
            "GET https://example.test/a?empty=&id=2&id=1",
        ),
        ("GET", "https://user:secret@example.test/a#part", "", "GET https://example.test/a"),
        ("GET", "https://example.test/a?q=%20%26", None, "GET https://example.test/a?q=+%26"),
        (
            "post",
            "https://example.test/graphql",
            '{"query": 1}',
            'POST https://example.test/graphql\n{"query": 1}',
        ),
        ("POST", "https://example.test/", b"\xff", "POST https://example.test/\n\\xff"),
    ],
)
def test_requests_have_one_canonical_text(method: str, url: str, body: str | bytes | None, text: str) -> None:
    assert canonical_request(method, url, body) == text
