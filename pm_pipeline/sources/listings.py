"""A crawl of a catalog as rows of its tables, page by page.

A whole venue is tens of thousands of markets, each with a page of rules: as Arrow rows they cost their text,
as objects several times that.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.adapter import Listing
from pm_pipeline.warehouse.records import (
    events_to_table,
    groups_to_table,
    markets_from_tables,
    markets_to_tables,
)
from pm_pipeline.warehouse.schema import table

KEYS: Final = {
    "catalog.markets": ("market_key",),
    "catalog.instruments": ("market_key", "outcome_index"),
    "catalog.events": ("venue", "event_id"),
    "catalog.market_groups": ("group_key",),
}
"""The tables of a catalog, and what names a row of each."""


class CatalogRows:
    """Collects listings. Of what comes twice, the later word counts."""

    def __init__(self) -> None:
        self._pages: dict[str, list[pa.Table]] = {name: [] for name in KEYS}

    def add(self, listing: Listing, now: Nanos) -> None:
        """Take a page, known at ``now``."""
        markets, instruments = markets_to_tables(listing.markets, now, now)
        events = events_to_table(listing.events, now, now)
        groups = groups_to_table(listing.groups, now, now)
        for name, rows in zip(KEYS, (markets, instruments, events, groups), strict=True):
            if len(rows):
                self._pages[name].append(rows)

    def tables(self) -> dict[str, pa.Table]:
        """The rows by table, each market, outcome, event and group once."""
        return {name: last_of_each(self._whole(name), key) for name, key in KEYS.items()}

    def markets(self, venue: Venue) -> Iterator[Market]:
        """The markets of a venue; nothing is built until somebody asks."""
        tables = self.tables()
        rows = tables["catalog.markets"]
        of_venue = rows.filter(pc.equal(rows["venue"], venue.value))
        yield from markets_from_tables(of_venue, tables["catalog.instruments"])

    def _whole(self, name: str) -> pa.Table:
        pages = self._pages[name]
        return pa.concat_tables(pages) if pages else table(name).arrow.empty_table()


def last_of_each(rows: pa.Table, key: Sequence[str]) -> pa.Table:
    """The last row of each key; the rows themselves, uncopied, where no key comes twice."""
    names = zip(*(rows.column(column).to_pylist() for column in key), strict=True)
    last = {name: place for place, name in enumerate(names)}
    return rows if len(last) == len(rows) else rows.take(pa.array(sorted(last.values()), pa.int64()))
