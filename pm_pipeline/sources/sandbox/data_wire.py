"""The envelope, paging and refusals that all of Data API v2 shares."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.markets.clock import SECOND, Nanos
from pm_pipeline.markets.units import Micro, UnitError, to_micro
from pm_pipeline.sources.sandbox.wire import Json, Refusal, answer, decode_cursor, integer, many, world_of
from pm_pipeline.sources.sandbox.world import WorldMarket

MAX_NAMED: Final = 20
"""How many conditions, events or questions a request may name."""

_CONDITION: Final = ("condition", "condition_id", "conditionId")
"""The parameter that names conditions, and what else it may be called."""
_HEX: Final = frozenset("0123456789abcdefABCDEF")


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
    """Page size and cursor, which has a size of its own: ``limit`` is that of the first page alone.

    Raises :class:`Refusal` for ``offset`` and a page that is too large.
    """
    if "offset" in request.query_params:
        raise Refusal(400, "offset is not supported; use cursor", "offset")
    cursor = decode_cursor(request.query_params.get("cursor"))
    asked = integer(request, "limit")
    limit = default if asked is None else asked
    if not 1 <= limit <= most:
        raise Refusal(400, f"limit must be between 1 and {most}", "limit")
    return int(cursor.get("l", limit)), cursor


def bound(request: Request, name: str) -> Nanos | None:
    """A time in unix seconds, as nanoseconds. Raises :class:`Refusal` for 0."""
    given = integer(request, name)
    if given is not None and given <= 0:
        raise Refusal(400, f"{name} must be positive", name)
    return None if given is None else given * SECOND


def conditions_of(request: Request) -> list[str]:
    """The conditions that a request names. Raises :class:`Refusal` (400) for what is no condition id."""
    given = [value for name in _CONDITION for value in many(request, name)]
    for condition in given:
        if not (condition.startswith("0x") and len(condition) == 66 and set(condition[2:]) <= _HEX):
            raise Refusal(400, "malformed condition id", "condition")
    if len(set(given)) > MAX_NAMED:
        raise Refusal(400, f"at most {MAX_NAMED} values", "condition")
    return given


def least(request: Request, default: str) -> Micro:
    """What is smaller is hidden; ``filter_amount=0`` is the default too, not everything."""
    try:
        asked = to_micro(request.query_params.get("filter_amount", "0"), "ceil")
    except UnitError as broken:
        raise Refusal(400, "filter_amount must be a number", "filter_amount") from broken
    return asked or to_micro(default)


def profile(wallet: str) -> Json:
    """Who stands behind an address, in the rows that tell it."""
    name = f"wallet-{wallet[2:8]}"
    return {
        "name": name,
        "pseudonym": name,
        "bio": "",
        "profile_image": "",
        "profile_image_optimized": "",
    }


def selected_markets(request: Request) -> list[WorldMarket] | None:
    """The markets named by condition or event; ``None`` when none are named."""
    world = world_of(request)
    conditions, events = conditions_of(request), many(request, "event_id")
    if len(events) > MAX_NAMED:
        raise Refusal(400, f"at most {MAX_NAMED} values", "event_id")
    if not conditions and not events:
        return None
    named = [world.by_condition[c] for c in conditions if c in world.by_condition]
    named += [child for e in events for child in world.by_event.get(f"polymarket:{e}", ())]
    return list({market.native_id: market for market in named}.values())
