"""The envelope, paging and refusals that all of Data API v2 shares."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.markets.clock import SECOND, Nanos
from pm_pipeline.sources.sandbox.wire import Refusal, answer, decode_cursor, integer, many, world_of
from pm_pipeline.sources.sandbox.world import WorldMarket

MAX_NAMED: Final = 20
"""How many conditions, events or questions a request may name."""


def error(refusal: Refusal) -> Response:
    """The Data API's error body."""
    codes = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 429: "RATE_LIMITED"}
    body: dict[str, object] = {
        "error": refusal.reason,
        "code": codes.get(refusal.status, "INVALID_PARAMETER"),
        "retryable": refusal.status in {429, 503},
        "trace_id": sha256(refusal.reason.encode()).hexdigest()[:32],
    }
    if refusal.parameter is not None:
        body["parameter"] = refusal.parameter
    return answer(body, refusal.status)


def envelope(rows: Iterable[object], limit: int, next_cursor: str | None) -> Response:
    """One page of rows; ``has_more`` says the same as the cursor."""
    page = {"limit": limit, "offset": 0, "has_more": next_cursor is not None, "next_cursor": next_cursor}
    return answer({"data": list(rows), "pagination": page})


def page_asked(request: Request, default: int, most: int) -> tuple[int, dict[str, int | str]]:
    """Page size and cursor. Raises :class:`Refusal` for ``offset`` and a page that is too large."""
    if "offset" in request.query_params:
        raise Refusal(400, "offset is not supported; use cursor", "offset")
    cursor = decode_cursor(request.query_params.get("cursor"))
    limit = integer(request, "limit")
    if limit is None:
        limit = int(cursor.get("l", default))
    if not 1 <= limit <= most:
        raise Refusal(400, f"limit must be between 1 and {most}", "limit")
    return limit, cursor


def bound(request: Request, name: str) -> Nanos | None:
    """A time in unix seconds, as nanoseconds. Raises :class:`Refusal` for 0."""
    given = integer(request, name)
    if given is not None and given <= 0:
        raise Refusal(400, f"{name} must be positive", name)
    return None if given is None else given * SECOND


def selected_markets(request: Request) -> list[WorldMarket] | None:
    """The markets named by condition or event; ``None`` when none are named."""
    world = world_of(request)
    conditions, events = many(request, "condition_id"), many(request, "event_id")
    for name, given in (("condition_id", conditions), ("event_id", events)):
        if len(given) > MAX_NAMED:
            raise Refusal(400, f"at most {MAX_NAMED} values", name)
    if not conditions and not events:
        return None
    named = [world.by_condition[c] for c in conditions if c in world.by_condition]
    named += [child for e in events for child in world.by_event.get(f"polymarket:{e}", ())]
    return list({market.native_id: market for market in named}.values())
