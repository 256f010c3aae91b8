"""The CLOB: the present order book."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha1
from typing import Any, Final

from pm_pipeline.markets.book import Book
from pm_pipeline.markets.clock import Nanos
from pm_pipeline.sources.errors import BadRequest, BadResponse
from pm_pipeline.sources.http import HttpClient
from pm_pipeline.sources.polymarket.wire import BookAnswer, BookLevel
from pm_pipeline.sources.wire import convert, price, size, unix_millis

MOST_BOOKS: Final = 500
"""Books that one request may ask for; one more is refused."""

_HASHED: Final = (
    "market",
    "asset_id",
    "timestamp",
    "hash",
    "bids",
    "asks",
    "min_order_size",
    "tick_size",
    "neg_risk",
    "last_trade_price",
)
"""What the hash of a book is taken over, in this order, the hash itself empty (62 of 62 recorded answers)."""


async def order_book(client: HttpClient, token_id: str) -> tuple[Book, Nanos] | None:
    """The book of a token and when it was read; ``None`` where there is none any more.

    A market that was proposed or resolved has no book (404), which is not the same as an empty one.
    """
    endpoint = "/book"
    try:
        reply = await client.fetch("GET", endpoint, {"token_id": token_id})
    except BadRequest as error:
        if error.status == 404:
            return None
        raise
    return to_book(reply.value, token_id), reply.at


async def order_books(client: HttpClient, token_ids: Sequence[str]) -> dict[str, tuple[Book, Nanos]]:
    """The books of many tokens, :data:`MOST_BOOKS` at a time, and when each was read.

    The venue answers in an order of its own and drops tokens that have no book any more: these are missing
    here too, which is not the same as an empty book.
    """
    endpoint = "/books"
    found: dict[str, tuple[Book, Nanos]] = {}
    for start in range(0, len(token_ids), MOST_BOOKS):
        asked = token_ids[start : start + MOST_BOOKS]
        reply = await client.fetch("POST", endpoint, json=[{"token_id": token} for token in asked])
        for body in convert(reply.value, list[dict[str, Any]], endpoint):
            token = body.get("asset_id")
            if token is None:
                raise BadResponse(f"{endpoint}: asset_id is missing")
            if not isinstance(token, str) or token not in asked or token in found:
                raise BadResponse(f"{endpoint}: token {str(token)[:90]} was not asked for, or comes twice")
            found[token] = to_book(body, token), reply.at
    return found


def to_book(body: object, token_id: str) -> Book:
    """The domain's book of a ``/book`` answer, which lists bids rising and asks falling.

    Raises
    ------
    BadResponse
        also where the book does not have the hash that it states.
    """
    endpoint = "/book"
    answer = convert(body, BookAnswer, f"{endpoint} of token {token_id}")
    if answer.asset_id != token_id:
        raise BadResponse(f"{endpoint}: asked for token {token_id}, got {answer.asset_id}")
    stated, computed = stated_hash(body), book_hash(body)
    if computed is not None and stated != computed:
        raise BadResponse(f"{endpoint}: the book of {token_id} does not have its hash {str(stated)[:40]!r}")
    at = unix_millis(answer.timestamp, endpoint, "timestamp")
    return Book.of(at, _levels(answer.bids, endpoint), _levels(answer.asks, endpoint))


def stated_hash(body: object) -> object:
    """The hash that a book bears."""
    return body.get("hash") if isinstance(body, Mapping) else None


def book_hash(body: object) -> str | None:
    """The SHA-1 that a book should bear, or ``None`` for a form whose hash cannot be computed.

    That is so for books of before July 2025, which lack fields, and for ones with fields we do not know.
    """
    if not isinstance(body, Mapping) or set(body) != set(_HASHED):
        return None
    whole = {name: body[name] for name in _HASHED} | {"hash": ""}
    text = json.dumps(whole, separators=(",", ":"), default=str)
    return sha1(text.encode(), usedforsecurity=False).hexdigest()


def _levels(levels: Sequence[BookLevel], endpoint: str) -> list[tuple[int, int]]:
    """Prices and sizes of one side; a price that comes twice is an error, its sizes would add up."""
    found = [
        (price(level.price, endpoint, "price"), size(level.size, endpoint, "size", "floor"))
        for level in levels
    ]
    if len({at for at, _ in found}) < len(found):
        raise BadResponse(f"{endpoint}: a side names a price twice")
    return found
