"""How many events Gamma counts, held against how many its listing gave.

A keyset listing that ends early looks like one that is whole. Only ``/events/pagination`` tells a number; it
is undocumented, and nobody says that it counts just what the listing lists. So a difference is told, and
refuses nothing. Events are asked for that are active and not archived, open and closed together: their number
only grows, hence a count from before the crawl is the least that the listing must give, whatever closes
meanwhile.
"""

from typing import Final

import msgspec

from pm_pipeline.sources.errors import SourceError
from pm_pipeline.sources.http import HttpClient, Params
from pm_pipeline.sources.wire import convert

_COUNTED: Final = "/events/pagination"
_LEAST: Final[Params] = {"limit": 1, "active": "true", "archived": "false"}


async def count_events(client: HttpClient, filters: Params) -> int | None:
    """The events that fit the filters; ``None`` where the server does not tell, or does not know a filter."""
    found = await _count(client, filters)
    if found is None or not any(value is not None for value in filters.values()):
        return found
    # an unknown filter is ignored without a word: then this is the number of all events
    return None if found == await _count(client, {}) else found


async def _count(client: HttpClient, filters: Params) -> int | None:
    try:
        body = await client.get(_COUNTED, {**_LEAST, **filters})
        return convert(body, _Page, _COUNTED).pagination.total
    except SourceError:
        return None  # a witness that may go any day; the listing does not rest on it


class _Pagination(msgspec.Struct):
    total: int = msgspec.field(name="totalResults")


class _Page(msgspec.Struct):
    """A page of events by offset; its rows are not looked at."""

    pagination: _Pagination
