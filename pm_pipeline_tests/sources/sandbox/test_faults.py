import json
from collections import Counter
from typing import Any

import httpx
import pytest

from pm_pipeline.errors import UsageError
from pm_pipeline.sources.sandbox import Fault, Faults, Planned, World, build_app, running_server
from pm_pipeline_tests.sources.sandbox.conftest import CLOB, DATA, GAMMA, KALSHI, AppClient

TRADES = "/v2/trades"
FEED = f"{DATA}{TRADES}?limit=20"
KALSHI_TRADES = f"{KALSHI}/markets/trades?limit=20"


def spoiled(world: World, fault: Fault, path: str, nth: int = 1, **rest: Any) -> AppClient:
    return AppClient(world, Faults((Planned(fault, path, nth),), **rest))


@pytest.mark.parametrize(
    ("fault", "status", "wait"),
    [
        (Fault.RATE_LIMITED, 429, None),
        (Fault.RATE_LIMITED_WITH_WAIT, 429, "1"),
        (Fault.SERVER_ERROR, 500, None),
        (Fault.UNAVAILABLE, 503, None),
        (Fault.STALL, 504, None),
    ],
)
def test_only_the_named_request_fails(world: World, fault: Fault, status: int, wait: str | None) -> None:
    client = spoiled(world, fault, TRADES, 3, stall_s=0.0)
    responses = [client.get(FEED) for _ in range(4)]
    assert [r.status_code for r in responses] == [200, 200, status, 200]
    assert responses[2].headers.get("retry-after") == wait
    assert responses[2].headers["x-sandbox"] == "SANDBOX"


def test_a_cut_body_ends_early_in_process_and_on_the_wire(world: World) -> None:
    response = spoiled(world, Fault.CUT_BODY, TRADES).get(FEED)
    assert len(response.content) < int(response.headers["content-length"])
    with pytest.raises(json.JSONDecodeError):
        response.json()
    app = build_app(world, Faults((Planned(Fault.CUT_BODY, TRADES),)))
    with running_server(app) as base, pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{base}/data{TRADES}?limit=20", trust_env=False)


def following(body: dict[str, Any]) -> str | None:
    if "pagination" in body:
        found: str | None = body["pagination"]["next_cursor"]
        return found
    return body.get("cursor") or body.get("next_cursor")


VENUES = [
    pytest.param(FEED, TRADES, "data", "cursor", id="data"),
    pytest.param(KALSHI_TRADES, "/trade-api/v2/markets/trades", "trades", "cursor", id="kalshi"),
    pytest.param(f"{GAMMA}/markets/keyset?limit=3", "/markets/keyset", "markets", "after_cursor", id="gamma"),
]


@pytest.mark.parametrize(("url", "path", "coll", "name"), VENUES)
@pytest.mark.parametrize("nth", [1, 2])
def test_an_empty_page_has_a_cursor_to_the_rows_that_were_due(
    world: World, url: str, path: str, coll: str, name: str, nth: int
) -> None:
    def rows_of(client: AppClient, pages: int) -> tuple[list[Any], list[int]]:
        rows: list[Any] = []
        sizes: list[int] = []
        cursor = ""
        for _ in range(pages):
            body = client.get(url + (f"&{name}={cursor}" if cursor else "")).json()
            rows += body[coll]
            sizes.append(len(body[coll]))
            cursor = following(body) or ""
            assert cursor
        return rows, sizes

    due, _ = rows_of(AppClient(world), 2)
    got, sizes = rows_of(spoiled(world, Fault.EMPTY_PAGE, path, nth), 3)
    assert got == due
    assert sizes[nth - 1] == 0


@pytest.mark.parametrize(("url", "path", "coll", "name"), VENUES)
def test_a_repeated_cursor_leads_nowhere(world: World, url: str, path: str, coll: str, name: str) -> None:
    client = spoiled(world, Fault.REPEATED_CURSOR, path, 2)
    cursor = following(client.get(url).json())
    assert following(client.get(f"{url}&{name}={cursor}").json()) == cursor


@pytest.mark.parametrize(("url", "path", "coll", "name"), VENUES)
def test_rows_can_come_out_of_order_or_twice(world: World, url: str, path: str, coll: str, name: str) -> None:
    due = AppClient(world).get(url).json()[coll]
    mixed = spoiled(world, Fault.OUT_OF_ORDER, path).get(url).json()[coll]
    assert mixed != due
    assert sorted(map(str, mixed)) == sorted(map(str, due))
    twice = spoiled(world, Fault.DUPLICATE_ROWS, path).get(url).json()[coll]
    assert twice == [*due, due[-1]]


@pytest.mark.parametrize(("url", "path", "coll", "name"), VENUES)
def test_a_source_that_goes_quiet_ends_early_without_a_word(
    world: World, url: str, path: str, coll: str, name: str
) -> None:
    due = AppClient(world).get(url).json()
    body = spoiled(world, Fault.STALE, path).get(url).json()
    assert following(due) is not None
    assert following(body) is None
    assert 0 < len(body[coll]) < len(due[coll])
    if coll == "data":
        assert max(r["timestamp"] for r in body[coll]) < max(r["timestamp"] for r in due[coll])
        assert body["pagination"]["has_more"] is False


ROWS_OF = [
    pytest.param(FEED, TRADES, "data", "condition_id", id="trades"),
    pytest.param(f"{GAMMA}/markets/keyset?limit=3", "/markets/keyset", "markets", "id", id="markets"),
    pytest.param(f"{DATA}/v2/leaderboard", "/v2/leaderboard", "data", "user_id", id="leaders"),
]


@pytest.mark.parametrize(("url", "path", "coll", "lost"), ROWS_OF)
def test_each_row_of_a_page_can_have_a_new_field_or_lack_one(
    world: World, url: str, path: str, coll: str, lost: str
) -> None:
    due = AppClient(world).get(url).json()
    newer = spoiled(world, Fault.NEW_FIELD, path).get(url).json()
    assert newer == due | {coll: [{**row, "new_field": 1} for row in due[coll]]}
    older = spoiled(world, Fault.MISSING_FIELD, path).get(url).json()
    assert older == due | {coll: [{n: v for n, v in row.items() if n != lost} for row in due[coll]]}
    assert all(lost in row for row in due[coll])


def test_a_single_row_can_drift_and_no_fault_of_pages_befalls_it(world: World) -> None:
    market = next(iter(world.polymarket.values())).market
    url, path = f"{GAMMA}/markets/{market.key.native_id}", f"/markets/{market.key.native_id}"
    due = AppClient(world).get(url).json()
    assert spoiled(world, Fault.NEW_FIELD, path).get(url).json() == {**due, "new_field": 1}
    assert spoiled(world, Fault.MISSING_FIELD, path).get(url).json() == {
        name: value for name, value in due.items() if name != "id"
    }
    for fault in (Fault.EMPTY_PAGE, Fault.DUPLICATE_ROWS, Fault.STALE):
        assert spoiled(world, fault, path).get(url).json() == due


def test_each_of_a_list_of_books_can_drift(world: World) -> None:
    market = next(m for m in world.polymarket.values() if m.resolution.payouts is None and not m.inactive)
    asked = [{"token_id": market.market.instrument(outcome).token_id} for outcome in (0, 1)]
    url = f"{CLOB}/books"
    due = AppClient(world).request("POST", url, json=asked).json()
    assert len(due) == 2
    assert spoiled(world, Fault.NEW_FIELD, "/books").request("POST", url, json=asked).json() == [
        {**book, "new_field": 1} for book in due
    ]


def test_a_page_fault_leaves_an_answer_without_rows_alone(world: World) -> None:
    path = "/trade-api/v2/exchange/status"
    client = spoiled(world, Fault.DUPLICATE_ROWS, path)
    assert client.get(f"{KALSHI}/exchange/status").json() == {"exchange_active": True, "trading_active": True}


def test_prefixes_count_as_the_host_itself(world: World) -> None:
    client = spoiled(world, Fault.SERVER_ERROR, "/v2/*", 1)
    assert client.get("http://127.0.0.1/data/v2/status").status_code == 500
    assert client.get(f"{DATA}/v2/status").status_code == 200


def test_scattered_faults_depend_on_the_seed_alone() -> None:
    def hits(seed: int) -> list[Fault | None]:
        faults = Faults(scattered=(Fault.STALL, Fault.SERVER_ERROR), share=0.3, seed=seed)
        return [faults.at(TRADES, n) for n in range(1, 1001)]

    assert hits(1) == hits(1) != hits(2)
    counts = Counter(hits(1))
    assert 230 < counts[Fault.STALL] + counts[Fault.SERVER_ERROR] < 370
    assert min(counts.values()) > 100
    assert Faults().at(TRADES, 1) is None


@pytest.mark.parametrize(
    ("text", "planned"),
    [
        ("stall@/v2/trades", Planned(Fault.STALL, "/v2/trades")),
        ("cut_body@/v2/*#3", Planned(Fault.CUT_BODY, "/v2/*", 3)),
        ("stale@/book#2x5", Planned(Fault.STALE, "/book", 2, 5)),
    ],
)
def test_a_planned_fault_is_read_from_text(text: str, planned: Planned) -> None:
    assert Planned.parse(text) == planned
    assert planned.hits(planned.path.replace("*", "x"), planned.nth + planned.times - 1)
    assert not planned.hits(planned.path, planned.nth + planned.times)
    assert not planned.hits("/elsewhere", planned.nth)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stal@/x", "did you mean 'stall'"),
        ("stall", "write for example"),
        ("stall@/x#a", "write for example"),
    ],
)
def test_a_misspelt_fault_is_explained(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Planned.parse(text)
