import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.sources.errors import (
    BadRequest,
    BadResponse,
    RepeatedCursor,
    SourceError,
    SourceUnavailable,
)
from pm_pipeline.sources.http import MOST_EMPTY, HttpClient, redacted
from pm_pipeline.sources.limiter import AdaptiveLimiter
from pm_pipeline_tests.sources.server import Server, Sleeps, client_of, json_response


def get(server: Server | httpx.AsyncBaseTransport, path: str = "/x", **more: Any) -> Any:
    async def run() -> Any:
        async with client_of(server, **more) as client:
            return await client.get(path)

    return asyncio.run(run())


def cut(_: Request) -> Response:
    return Response('{"a": 1', headers={"content-length": "400"}, media_type="application/json")


def test_numbers_with_a_fraction_are_exact_decimals() -> None:
    body = '{"p": 0.1, "q": 1e-7, "n": 12345678901234567890123, "t": "0.10"}'
    assert get(Server({"/x": json_response(body)})) == {
        "p": Decimal("0.1"),
        "q": Decimal("1E-7"),
        "n": 12345678901234567890123,
        "t": "0.10",
    }


@pytest.mark.parametrize("status", [425, 429, 500, 502, 503, 504])
def test_a_passing_failure_is_asked_again(status: int) -> None:
    server = Server({"/x": [json_response({}, status), json_response({}, status), {"ok": True}]})
    assert get(server) == {"ok": True}
    assert len(server.asked) == 3


def test_a_venue_that_restarts_is_waited_for_longer_than_other_failures() -> None:
    sleeps = Sleeps()
    server = Server({"/x": [json_response({}, 425)] * 9 + [{"ok": True}]})
    assert get(server, sleeps=sleeps, attempts=2) == {"ok": True}
    assert sleeps.slept == [10.0] * 9


def test_a_restart_beyond_our_patience_is_said_with_the_hour_at_which_it_is_usual() -> None:
    sleeps = Sleeps()
    server = Server({"/x": json_response({}, 425)})
    with pytest.raises(SourceUnavailable, match=r"venue\.test/x: .*HTTP 425.* for 60 s; on Tuesdays at 7:00"):
        get(server, sleeps=sleeps, restart_s=2.0)
    assert len(server.asked) == 30


def test_an_endpoint_is_paced_apart_and_the_longest_path_that_fits_counts() -> None:
    clocks = {name: Sleeps() for name in ("/book", "/books", "host")}

    async def run() -> None:
        server = Server({"/book": {}, "/books": json_response({}, 429), "/x": {}})
        async with client_of(
            server,
            sleeps=clocks["host"],
            endpoints={
                path: AdaptiveLimiter(1, clock=clocks[path].clock, sleep=clocks[path].sleep)
                for path in ("/book", "/books")
            },
            attempts=2,
        ) as client:
            for path in ("/book", "/book", "/x", "/x"):
                await client.get(path)
            with pytest.raises(SourceUnavailable):
                await client.get("/books")

    asyncio.run(run())
    # after a 429 the endpoint's rate is halved: its second request waits for two seconds
    assert {name: sleeps.slept for name, sleeps in clocks.items()} == {
        "/book": [1.0],
        "/books": [2.0],
        "host": [],
    }


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 422])
def test_a_refusal_is_final_and_carries_its_status(status: int) -> None:
    server = Server({"/x": json_response({}, status)})
    with pytest.raises(BadRequest) as caught:
        get(server)
    assert caught.value.status == status
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "bad request", "details": "invalid status"}}, "bad request: invalid status"),
        ({"error": "too many requests"}, "too many requests"),
        ({"msg": "Parameter validation failed"}, "Parameter validation failed"),
        ({"error": "unknown token", "code": "INVALID", "retryable": False}, "unknown token"),
        ({"message": "nothing here"}, "nothing here"),
        ("<html>gone</html>", "<html>gone</html>"),
        ([], "no message"),
    ],
)  # fmt: skip
def test_the_venues_own_words_are_passed_on(body: object, words: str) -> None:
    expected = words if body != [] else r"\[\]"
    with pytest.raises(BadRequest, match=expected):
        get(Server({"/x": json_response(body, 400)}))


def test_exhausted_attempts_say_host_path_number_and_last_answer() -> None:
    server = Server({"/x": json_response({"error": "down for repair"}, 503)})
    with pytest.raises(
        SourceUnavailable, match=r"venue\.test/x failed 4 times; last: HTTP 503: down for repair"
    ):
        get(server, attempts=4)
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    "bad",
    [
        cut,
        json_response('{"a": '),
        json_response("not json"),
        json_response(""),
        Response(b"\xff\xfe"),
        Response(b"<html>", headers={"content-encoding": "gzip"}),
    ],
)
def test_a_body_that_is_cut_or_undecodable_is_asked_again(bad: object) -> None:
    server = Server({"/x": [bad, {"ok": True}]})
    assert get(server) == {"ok": True}
    assert len(server.asked) == 2


def test_a_hanging_server_is_given_up_after_the_timeout_and_asked_again() -> None:
    calls = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope["path"])
        await asyncio.sleep(60)

    with pytest.raises(SourceUnavailable, match=r"no answer within 0\.01 s"):
        get(httpx.ASGITransport(app), timeout_s=0.01, attempts=2)
    assert calls == ["/x", "/x"]


class Broken(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")


def test_a_lost_connection_is_retried_and_then_said() -> None:
    with pytest.raises(
        SourceUnavailable, match=r"failed 6 times; last: ConnectError: connection refused\. Check the network"
    ):
        get(Broken())


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("7", [7.0]),
        (format_datetime(datetime(2026, 11, 1, 0, 0, 9, tzinfo=UTC), usegmt=True), [9.0]),
        (format_datetime(datetime(2026, 10, 1, tzinfo=UTC), usegmt=True), []),
        ("soon", []),
    ],
)
def test_retry_after_holds_back_the_next_request(header: str, expected: list[float]) -> None:
    sleeps = Sleeps()
    start = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    server = Server({"/x": [json_response({}, 503, {"retry-after": header}), {}]})
    get(server, sleeps=sleeps, clock=lambda: start)
    assert sleeps.slept == expected


def test_a_retry_after_beyond_our_patience_ends_the_request_at_once() -> None:
    server = Server({"/x": json_response({}, 429, {"retry-after": "3600"})})
    with pytest.raises(SourceUnavailable, match="asks to come back in 3600 s"):
        get(server)
    assert len(server.asked) == 1


def test_too_many_requests_slow_the_host_down_and_answers_speed_it_up() -> None:
    async def run() -> list[float]:
        limiter = Sleeps().limiter()
        server = Server({"/x": [json_response({}, 429), {}]})
        client = HttpClient(
            "https://venue.test",
            transport=httpx.ASGITransport(server.app),
            limiter=limiter,
            wait_initial_s=0,
            wait_max_s=0,
        )
        async with client:
            await client.get("/x")
        return [limiter.rate]

    assert asyncio.run(run()) == [520.0]


def test_a_redirect_is_an_answer_we_do_not_understand() -> None:
    with pytest.raises(BadResponse, match="HTTP 302"):
        get(Server({"/x": Response(status_code=302, headers={"location": "/y"})}))


def test_a_post_carries_its_body_and_parameters_without_a_value_are_left_out() -> None:
    bodies = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bodies.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"[1]"})

    server = Server({"/x": {}})

    async def run() -> Any:
        async with client_of(httpx.ASGITransport(app)) as client:
            answer = await client.post("/books", [{"token_id": "7"}])
        async with client_of(server) as client:
            await client.get("/x", {"a": None, "b": 1, "c": ["x", "y"]})
        return answer

    assert asyncio.run(run()) == [1]
    assert bodies == [b'[{"token_id":"7"}]']
    assert server.asked == [("/x", {"b": "1", "c": "y"})]


@pytest.mark.parametrize(
    ("headers", "at"),
    [({"x-sandbox-now": "123000"}, 123000), ({"x-archived-at": "456000"}, 456000), ({}, 9_000_000_000)],
)
def test_the_moment_of_an_answer_is_that_of_its_world(headers: dict[str, str], at: int) -> None:
    async def run() -> int:
        async with client_of(Server({"/x": json_response({}, 200, headers)}), clock=lambda: 9.0) as client:
            return (await client.fetch("GET", "/x")).at

    assert asyncio.run(run()) == at


@pytest.mark.parametrize(
    ("seconds", "headers", "words"),
    [
        (3_600, {}, "60 minutes ahead of that of venue"),
        (-3_600, {}, "60 minutes behind that of venue"),
        (240, {}, ""),
        (-240, {}, ""),
        (3_600, {"age": "3600"}, ""),  # the answer lay an hour in a cache
        (3_600, {"date": "now"}, ""),
        (3_600, {"x-sandbox-now": "123000"}, ""),  # another world has another time
    ],
)
@pytest.mark.parametrize("status", [200, 401])
def test_a_clock_that_is_wrong_dates_and_signs_nothing(
    seconds: int, headers: dict[str, str], words: str, status: int
) -> None:
    """Its rows would be known before they were, or candles taken for ended that are not."""
    there = datetime(2026, 11, 1, tzinfo=UTC)
    dated = {"date": format_datetime(there, usegmt=True), **headers}
    server = Server({"/x": json_response({}, status, dated)})
    clock = there.timestamp() + seconds
    if words or status == 401:
        with pytest.raises(SourceError, match=words or "HTTP 401"):
            get(server, clock=lambda: clock)
    else:
        assert get(server, clock=lambda: clock) == {}


def test_secrets_appear_in_no_error_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "s3cr3t-value"
    server = Server({"/x": json_response({"error": f"key {secret} is not known"}, 401)})
    down = Server({"/x": json_response({"error": f"key {secret} is busy"}, 503)})
    for each in (server, down):
        with pytest.raises(SourceError) as caught:
            asyncio.run(_with_secret(each, secret))
        assert secret not in str(caught.value)
        assert "api_key=***" in str(caught.value)
        assert "market=0xabc" in str(caught.value)
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx")]
    assert not any(secret in message for message in ours)


async def _with_secret(server: Server, secret: str) -> None:
    async with client_of(server, headers={"x-api-key": secret}, attempts=2) as client:
        await client.get("/x", {"api_key": secret, "market": "0xabc"})


@pytest.mark.parametrize(
    ("name", "hidden"),
    [("api_key", True), ("access_token", True), ("token", True), ("signature", True), ("apiKey", True),
     ("token_id", False), ("clob_token_ids", False), ("market", False), ("series_ticker", False)],
)  # fmt: skip
def test_only_what_could_be_a_secret_is_hidden(name: str, hidden: bool) -> None:
    shown = redacted(httpx.URL("https://h.test/p", params={name: "v4lue"}))
    assert shown == f"h.test/p?{name}={'***' if hidden else 'v4lue'}"


# paging


async def _walk(server: Server, **more: Any) -> list[list[Any]]:
    async with client_of(server) as client:
        pages: AsyncIterator[list[Any]] = client.pages(
            "/x", {"series": "S", "limit": 2}, rows="rows", cursor_in="after",
            cursor_of=lambda body: body.get("next"), **more,
        )  # fmt: skip
        return [page async for page in pages]


@pytest.mark.parametrize("end", [{}, {"next": None}, {"next": ""}, {"next": "LTE="}])
def test_pages_end_where_the_cursor_does_and_every_page_carries_the_filters(end: dict[str, Any]) -> None:
    server = Server({"/x": [{"rows": [1], "next": "a"}, {"rows": [2], "next": "b"}, {"rows": [3], **end}]})
    assert asyncio.run(_walk(server)) == [[1], [2], [3]]
    filters = {"series": "S", "limit": "2"}
    assert [params for _, params in server.asked] == [
        filters,
        {**filters, "after": "a"},
        {**filters, "after": "b"},
    ]


def test_an_empty_page_with_a_cursor_is_not_the_end() -> None:
    server = Server({"/x": [{"rows": [1], "next": "a"}, {"rows": [], "next": "b"}, {"rows": [2]}]})
    assert asyncio.run(_walk(server)) == [[1], [2]]


@pytest.mark.parametrize(("empty", "ends"), [(MOST_EMPTY, True), (MOST_EMPTY + 1, False)])
def test_a_listing_that_goes_on_with_nothing_is_given_up(empty: int, ends: bool) -> None:
    nothing = [{"rows": [], "next": f"n{number}"} for number in range(empty)]
    server = Server({"/x": [{"rows": [1], "next": "a"}, *nothing, {"rows": [2]}]})
    if ends:
        assert asyncio.run(_walk(server)) == [[1], [2]]
    else:
        with pytest.raises(BadResponse, match="empty pages in a row"):
            asyncio.run(_walk(server))


def test_an_empty_page_that_repeats_its_cursor_is_asked_once_more() -> None:
    server = Server(
        {"/x": [{"rows": [1], "next": "a"}, {"rows": [], "next": "a"}, {"rows": [2], "next": ""}]}
    )
    assert asyncio.run(_walk(server)) == [[1], [2]]


def test_a_cursor_that_twice_brings_nothing_but_itself_is_the_end() -> None:
    server = Server({"/x": [{"rows": [1], "next": "a"}, {"rows": [], "next": "a"}]})
    assert asyncio.run(_walk(server)) == [[1]]
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "answers",
    [
        [{"rows": [1], "next": "a"}, {"rows": [2], "next": "b"}, {"rows": [3], "next": "a"}],
        [{"rows": [1], "next": "a"}, {"rows": [2], "next": "a"}],
        [{"rows": [1, 2], "next": "a"}, {"rows": [1, 2], "next": "b"}],
    ],
)
def test_a_cursor_or_a_page_seen_before_is_an_error(answers: list[Any]) -> None:
    with pytest.raises(RepeatedCursor):
        asyncio.run(_walk(Server({"/x": answers})))


def test_pages_that_begin_with_the_same_row_are_one_page_where_rows_have_an_identity() -> None:
    answers = [{"rows": [{"id": 1, "bid": 1}], "next": "a"}, {"rows": [{"id": 1, "bid": 2}], "next": "b"}]
    with pytest.raises(RepeatedCursor):
        asyncio.run(_walk(Server({"/x": answers}), identity=lambda row: row["id"]))


@pytest.mark.parametrize("body", [[], {"data": []}, {"rows": {}}, 7, {"rows": [1], "next": ["a"]}])
def test_a_page_of_another_shape_is_a_bad_response(body: object) -> None:
    with pytest.raises(BadResponse, match=r"venue\.test/x answered"):
        asyncio.run(_walk(Server({"/x": json_response(body)})))


def test_a_listing_without_end_is_an_error_and_never_cut_short() -> None:
    numbers = iter(range(1000))

    def endless(_: Request) -> Response:
        number = next(numbers)
        return json_response({"rows": [number], "next": str(number)})

    with pytest.raises(BadResponse, match="more than 5 pages"):
        asyncio.run(_walk(Server({"/x": endless}), max_pages=5))


def test_a_transient_failure_between_pages_loses_nothing() -> None:
    answers: list[Any] = [{"rows": [1], "next": "a"}, json_response({}, 500), cut, {"rows": [2]}]
    assert asyncio.run(_walk(Server({"/x": answers}))) == [[1], [2]]
