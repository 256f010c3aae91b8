"""The catalog of a whole venue: 36,000 markets by Gamma's pages into the lake, and read back.

The server is in this process and answers with rows of its own making, 100 events to a page, first those that
are open, then those that are closed. What making the pages takes is told apart, so that the rest is ours:
paging, parsing, mapping to records, and writing partitions. Each round is a process of its own.
"""

import asyncio
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs

EVENTS = 4_000
TRADABLE = 9
"""Markets of each event that can be traded; one placeholder stands beside them."""

PAGE = 100
ROUNDS = 3
NOW = 1_780_000_000
RULES = "This market resolves to the range that holds the highest temperature of the day, as recorded. " * 16


class Server:
    """Gamma and the clock of the Data API, as an ASGI application; ``cpu_s`` is what the pages took."""

    def __init__(self) -> None:
        self.requests = 0
        self.cpu_s = 0.0

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        self.requests += 1
        started = time.process_time()
        body = json.dumps(self._answer(scope["path"], parse_qs(scope["query_string"].decode()))).encode()
        self.cpu_s += time.process_time() - started
        headers = [(b"content-type", b"application/json"), (b"x-sandbox-now", str(NOW * 10**9).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, path: str, params: dict[str, list[str]]) -> dict[str, Any]:
        if path != "/events/keyset":
            return {"data": {}}
        closed = params["closed"] == ["true"]
        first = int(params.get("after_cursor", ["0"])[0])
        last = min(first + PAGE, EVENTS // 2)
        body: dict[str, Any] = {"events": [_event(2 * n + closed, closed) for n in range(first, last)]}
        return body | ({"next_cursor": str(last)} if last < EVENTS // 2 else {})


def _event(number: int, closed: bool) -> dict[str, Any]:
    slug, group = f"highest-temperature-in-city-{number}", _hex(f"group {number}")
    markets = [_market(number, place, slug, group, closed) for place in range(TRADABLE + 1)]
    return {
        "id": str(100_000 + number),
        "ticker": slug,
        "slug": slug,
        "title": f"Highest temperature in city {number}?",
        "description": RULES,
        "startDate": "2026-05-01T10:00:00Z",
        "endDate": "2026-05-03T12:00:00Z",
        "active": True,
        "closed": closed,
        "negRisk": True,
        "negRiskMarketID": group,
        "negRiskAugmented": False,
        "volume": 12345.678901,
        "seriesSlug": "city-daily-weather",
        "series": [{"id": "41", "slug": "city-daily-weather"}],
        "tags": [
            {"id": str(n), "label": name.title(), "slug": name} for n, name in enumerate(("weather", "daily"))
        ],
        "markets": markets,
    }


def _market(event: int, place: int, slug: str, group: str, closed: bool) -> dict[str, Any]:
    number = event * (TRADABLE + 1) + place
    label, tokens = f"{60 + 2 * place}-{61 + 2 * place}°F", [_decimal(f"{number} {n}") for n in range(2)]
    body: dict[str, Any] = {
        "id": str(1_000_000 + number),
        "question": f"Will the highest temperature in city {event} be {label}?",
        "conditionId": _hex(f"condition {number}"),
        "questionID": _hex(f"question {number}"),
        "slug": f"{slug}-{place}",
        "resolutionSource": "https://www.wunderground.com/history/daily/us/ny/new-york-city/KLGA",
        "description": f"{slug} {label}: {RULES}",
        "startDate": "2026-05-01T10:00:00Z",
        "createdAt": "2026-05-01T09:59:00.123456Z",
        "endDate": "2026-05-03T12:00:00Z",
        "outcomes": '["Yes", "No"]',
        "outcomePrices": '["0.125", "0.875"]',
        "clobTokenIds": json.dumps(tokens),
        "positionIds": [_decimal(f"{number} {n} position") for n in range(2)],
        "active": place < TRADABLE,
        "closed": closed,
        "acceptingOrders": not closed,
        "enableOrderBook": True,
        "negRisk": True,
        "negRiskOther": place == TRADABLE,
        "negRiskMarketID": group,
        "orderPriceMinTickSize": 0.001,
        "orderMinSize": 5,
        "volume": "1234.567891",
        "volumeNum": 1234.567891,
        "feesEnabled": True,
        "feeSchedule": {"exponent": 1, "rate": 0.05, "takerOnly": True, "rebateRate": 0.25},
        "bestBid": 0.124,
        "bestAsk": 0.126,
        "version": "v1",
    }
    return body | ({"closedTime": "2026-05-04 03:10:16+00"} if closed else {})


def _hex(text: str) -> str:
    return "0x" + hashlib.sha256(text.encode()).hexdigest()


def _decimal(text: str) -> str:
    return str(int(hashlib.sha256(text.encode()).hexdigest(), 16))


def one() -> dict[str, float]:
    """Read the catalog once; what it took of this process."""
    import httpx

    from pm_pipeline.defs.catalog.assets import read_catalog, write_catalog
    from pm_pipeline.sources.http import HttpClient
    from pm_pipeline.sources.limiter import AdaptiveLimiter
    from pm_pipeline.sources.polymarket import PolymarketAdapter
    from pm_pipeline.universe import Universe
    from pm_pipeline.warehouse import Catalog, Lake

    server = Server()

    def client() -> HttpClient:
        limiter = AdaptiveLimiter(1e6, 1_000_000)
        return HttpClient("https://venue.test", limiter=limiter, transport=httpx.ASGITransport(server))

    def adapter(venue: object) -> PolymarketAdapter:
        return PolymarketAdapter(gamma=client(), clob=client(), data=client())

    universe = Universe.parse({"markets": [{"venue": "polymarket"}]}, "benchmark")
    told: dict[str, float] = {"before_mb": _peak_mb()}
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        workspace = cast(
            Any, SimpleNamespace(adapter=adapter, lake=lake, settings=SimpleNamespace(label="BENCHMARK"))
        )
        wall, cpu = time.perf_counter(), time.process_time()
        reading = asyncio.run(read_catalog(workspace, universe))
        told["crawl_cpu_s"] = time.process_time() - cpu - server.cpu_s
        told["crawled_mb"] = _peak_mb()
        cpu = time.process_time()
        write_catalog(workspace, [time.strftime("%Y-%m-%d", time.gmtime(NOW))], reading)
        told["write_cpu_s"] = time.process_time() - cpu
        told["wall_s"] = time.perf_counter() - wall
        told |= {"server_cpu_s": server.cpu_s, "requests": server.requests, "peak_mb": _peak_mb()}
        rows = len(reading.tables["catalog.markets"])
        del reading
        wall = time.perf_counter()
        found = Catalog(lake).markets()
        told |= {"back_wall_s": time.perf_counter() - wall, "back_peak_mb": _peak_mb()}
    assert rows == len(found) == EVENTS * TRADABLE
    return told


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    command = [sys.executable, "-m", "benchmarks.catalog", "one"]
    rounds = [
        json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(ROUNDS)
    ]
    of = {name: median(told[name] for told in rounds) for name in rounds[0]}
    ours = of["crawl_cpu_s"] + of["write_cpu_s"]
    print(
        f"{EVENTS * TRADABLE:,} markets of {EVENTS:,} events by {of['requests']:.0f} requests in "
        f"{of['wall_s']:.1f} s; of the processor ours is {ours:.1f} s "
        f"(crawl {of['crawl_cpu_s']:.1f}, write {of['write_cpu_s']:.1f}) "
        f"and the server's {of['server_cpu_s']:.1f} s: a share of {ours / (ours + of['server_cpu_s']):.0%}\n"
        f"memory: {of['before_mb']:.0f} MB before, {of['crawled_mb']:.0f} MB crawled, "
        f"{of['peak_mb']:.0f} MB at most\n"
        f"Catalog(lake).markets(): {of['back_wall_s']:.2f} s, {of['back_peak_mb']:.0f} MB at most"
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["one"]:
        print(json.dumps(one()))
    else:
        main()
