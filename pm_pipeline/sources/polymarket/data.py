"""Data API v2: its pages and rows.

Every page carries the same filters again, since a bare cursor continues the feed of the whole exchange.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.http import HttpClient, Params
from pm_pipeline.sources.polymarket import unread
from pm_pipeline.sources.wire import convert

RESOLUTIONS: Final = "/v2/resolutions"

WITH_DUST: Final[Params] = {"filter_type": "TOKENS", "filter_amount": "0.000001"}
"""Shows everything, down to the smallest part of a contract: 0 counts as the default, which hides dust."""

_RETIRED: Final = frozenset({"proxyWallet", "conditionId", "asset", "usdcSize", "transactionHash"})

R = TypeVar("R")


def record(raw: Any, kind: type[R], path: str) -> R:
    """One row as the Struct ``kind``.

    Raises :class:`BadResponse` that names the row; one of the retired v1 is called by that name.
    """
    if isinstance(raw, Mapping) and (old := sorted(_RETIRED & raw.keys())):
        raise BadResponse(
            f"{path}: a row of the retired Data API v1 ({', '.join(old)}); the venue ended it on 2026-10-24, "
            "and v2 names its fields in small letters. Read /v2 again"
        )
    try:
        return convert(raw, kind, path)
    except BadResponse:  # said again with the row's name, which costs too much for every row
        return convert(raw, kind, f"{path} row {_name_of(raw)}")


def _name_of(raw: Any) -> str:
    """What a row can be found by."""
    if not isinstance(raw, Mapping):
        return repr(raw)[:60]
    names = ("transaction_hash", "condition_id", "token_id", "proxy_wallet", "user_id", "timestamp")
    found = [f"{name}={str(raw[name])[:80]}" for name in names if raw.get(name)]
    return ", ".join(found[:2]) or "without an id"


def pages(client: HttpClient, path: str, params: Params) -> AsyncIterator[list[Any]]:
    """Every page of a listing, its envelope checked; raises like :meth:`HttpClient.pages`."""
    return client.pages(path, params, rows="data", cursor_in="cursor", cursor_of=_cursor_of(path))


def _cursor_of(path: str) -> Any:
    def read(body: Mapping[str, Any]) -> object:
        if path == RESOLUTIONS and "pagination" not in body:
            return body.get("next_cursor")  # the one listing that comes without the envelope's tail
        pagination = convert(body.get("pagination"), _Pagination, path)
        if pagination.has_more != (pagination.next_cursor is not None):
            raise BadResponse(f"{path}: has_more is {pagination.has_more}, but next_cursor disagrees")
        return pagination.next_cursor

    return read


class _Pagination(msgspec.Struct):
    """The envelope's tail; ``has_more`` says exactly that ``next_cursor`` is there."""

    unread: ClassVar[frozenset[str]] = unread.PAGINATION

    has_more: bool
    next_cursor: str | None = None
