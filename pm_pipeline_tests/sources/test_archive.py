import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.sources.archive import ArchivingTransport, ReplayTransport
from pm_pipeline.sources.errors import BadRequest, PageNotArchived, SourceUnavailable
from pm_pipeline.warehouse.archive import PageArchive, canonical_request
from pm_pipeline_tests.sources.server import Server, client_of, json_response


@pytest.fixture
def archive(tmp_path: Path) -> PageArchive:
    return PageArchive(tmp_path)


def keeping(server: Server, archive: PageArchive) -> ArchivingTransport:
    return ArchivingTransport(httpx.ASGITransport(server.app), archive, clock=lambda: 77_000)


def ask(transport: httpx.AsyncBaseTransport, method: str = "GET", path: str = "/x", **more: Any) -> Any:
    async def run() -> Any:
        async with client_of(transport, attempts=2) as client:
            reply = await client.fetch(method, path, **more)
            return reply.value, reply.at

    return asyncio.run(run())


def test_a_page_is_kept_as_it_came_and_replayed_with_its_own_time(archive: PageArchive) -> None:
    body = '{"p":  0.10, "extra": [1]}'
    ask(keeping(Server({"/x": json_response(body)}), archive), params={"a": 1})
    page = archive.get(canonical_request("GET", "https://venue.test/x?a=1"))
    assert page is not None
    assert (page.body, page.status, page.at) == (body.encode(), 200, 77_000)
    value, at = ask(ReplayTransport(archive), params={"a": 1})
    assert (str(value["p"]), at) == ("0.10", 77_000)


def test_pages_of_the_sandbox_keep_the_time_of_its_world(archive: PageArchive) -> None:
    ask(keeping(Server({"/x": json_response({}, 200, {"x-sandbox-now": "5000"})}), archive))
    assert ask(ReplayTransport(archive))[1] == 5000


def test_the_body_of_a_post_is_part_of_the_request(archive: PageArchive) -> None:
    server = Server({"/x": [json_response("[1]"), json_response("[2]")]})
    transport = keeping(server, archive)
    ask(transport, "POST", json=["a"])
    ask(transport, "POST", json=["b"])
    assert ask(ReplayTransport(archive), "POST", json=["a"])[0] == [1]
    assert ask(ReplayTransport(archive), "POST", json=["b"])[0] == [2]


def test_a_page_never_fetched_is_an_error_that_says_what_to_do(archive: PageArchive) -> None:
    with pytest.raises(PageNotArchived, match=r"no answer to GET venue\.test/x.*PM_SOURCE=live"):
        ask(ReplayTransport(archive))


@pytest.mark.parametrize(("status", "error"), [(400, BadRequest), (503, SourceUnavailable)])
def test_failures_are_not_kept(archive: PageArchive, status: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        ask(keeping(Server({"/x": json_response({}, status)}), archive))
    assert list(archive.entries()) == []


def test_that_something_is_not_there_is_kept_and_replayed(archive: PageArchive) -> None:
    for transport in (keeping(Server({}), archive), ReplayTransport(archive)):
        with pytest.raises(BadRequest) as caught:
            ask(transport)
        assert caught.value.status == 404


def test_a_cut_body_is_not_kept_and_is_asked_again(archive: PageArchive) -> None:
    def cut(_: Request) -> Response:
        return Response('{"a": 1', headers={"content-length": "400"})

    transport = keeping(Server({"/x": [cut, {"whole": 1}]}), archive)
    assert ask(transport)[0] == {"whole": 1}
    assert [entry.size for entry in archive.entries()] == [len('{"whole": 1}')]


def test_a_body_that_no_parser_understands_is_kept_all_the_same(archive: PageArchive) -> None:
    with pytest.raises(SourceUnavailable, match="not JSON"):
        ask(keeping(Server({"/x": json_response("<html>")}), archive))
    assert [entry.size for entry in archive.entries()] == [6, 6]


def test_cookies_and_keys_do_not_reach_the_archive(archive: PageArchive, tmp_path: Path) -> None:
    server = Server({"/x": json_response({}, 200, {"set-cookie": "session=s3cr3t", "x-key": "s3cr3t"})})

    async def run() -> None:
        async with client_of(keeping(server, archive), headers={"x-api-key": "s3cr3t"}) as client:
            await client.get("/x")

    asyncio.run(run())
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(b"s3cr3t" in content for content in files)
