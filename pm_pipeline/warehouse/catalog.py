"""The catalog: every market that was ever listed, as the newest reading shows it, found by any of its ids."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Final
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.errors import UsageError, did_you_mean
from pm_pipeline.markets import Event, GroupKind, Market, MarketGroup, MarketKey, Venue
from pm_pipeline.markets.clock import FOREVER, Nanos
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline.warehouse.records import (
    events_from_table,
    groups_from_table,
    markets_from_tables,
    time_array,
)
from pm_pipeline.warehouse.schema import table

_MARKETS: Final = "catalog.markets"
_INSTRUMENTS: Final = "catalog.instruments"
_EVENTS: Final = "catalog.events"
_GROUPS: Final = "catalog.market_groups"
_SCHEDULE: Final = ("scheduled_close", "schedule_evidence")
_READING: Final = ("market_key", "known_at", *_SCHEDULE)

_SITES: Final = {"polymarket.com": Venue.POLYMARKET, "kalshi.com": Venue.KALSHI}

_IDS: Final[tuple[Callable[[Market], Iterable[str | None]], ...]] = (
    lambda market: (str(market.key),),
    lambda market: (market.key.native_id,),
    lambda market: (market.slug,),
    lambda market: (market.condition_id,),
    lambda market: (market.question_id,),
    lambda market: (outcome.token_id for outcome in market.instruments),
    lambda market: (outcome.position_id for outcome in market.instruments),
    lambda market: (market.event_slug,),
    lambda market: (market.event_id,),
)
"""Kinds of id, in the order in which they are tried: an event may bear the number of another market."""


class Catalog:
    """The markets in a lake, as known at ``as_of`` (by default: everything read so far).

    Of several readings of a market the newest counts, except for its scheduled close: that is what the
    *oldest* reading which has one announced, with its evidence. A close that moved afterwards is later
    knowledge.
    """

    def __init__(self, lake: Lake, as_of: Nanos | None = None) -> None:
        self._lake = lake
        self._as_of = FOREVER if as_of is None else as_of

    def markets(self) -> dict[str, Market]:
        """All markets by their key, sorted."""
        return dict(self._markets)

    def market(self, key: MarketKey | str) -> Market:
        """The market with this key. Raises :class:`UsageError` with the nearest keys."""
        try:
            return self._markets[str(key)]
        except KeyError:
            raise UsageError(f"no market {str(key)!r}{self._nearest(str(key))}") from None

    def find(self, any_id: str) -> Market:
        """The market that any of its ids, or its page on the venue's site, names; case does not matter.

        Ids are the market key, native id, slug, condition id, question id, token id, position id, and the
        slug or id of an event that has one market only.

        Raises
        ------
        UsageError
            when nothing, or more than one market, goes by that id.
        """
        wanted, venue = _from_url(any_id.strip())
        for ids in self._indices:
            keys = [key for key in ids.get(wanted.casefold(), ()) if venue in (None, key.venue)]
            if len(keys) == 1:
                return self._markets[str(keys[0])]
            if keys:
                listed = "\n".join(f"  {key}  {self._markets[str(key)].question}" for key in keys)
                raise UsageError(f"{any_id!r} names {len(keys)} markets; choose one of them:\n{listed}")
        raise UsageError(f"no market is known as {any_id!r}{self._nearest(wanted)}")

    def events(self) -> dict[str, Event]:
        """All events as they were last read, by ``venue:event_id``, sorted."""
        events = {event.key: event for event in events_from_table(self._newest(_EVENTS))}
        return dict(sorted(events.items()))

    def outcomes(self) -> pa.Table:
        """The outcomes of all markets as they were last read: rows of ``catalog.instruments``."""
        read = [
            _outcomes_of(self._lake.read(_INSTRUMENTS, day), chosen) for day, chosen in self._newest_by_day()
        ]
        return pa.concat_tables([table(_INSTRUMENTS).arrow.empty_table(), *read])

    def groups(self) -> dict[str, MarketGroup]:
        """The sets of markets that settle together as they were last read, by their key, sorted.

        A group that markets name, but that was never listed itself (a reading of before groups were kept),
        has the markets that name it, and nothing is said to be exhaustive.
        """
        members: dict[str, list[Market]] = {}
        for market in self._markets.values():
            if market.group_key is not None:
                members.setdefault(market.group_key, []).append(market)
        named = {key: _group(key, markets) for key, markets in members.items()}
        listed = {group.group_key: group for group in groups_from_table(self._newest(_GROUPS))}
        return dict(sorted((named | listed).items()))

    def _newest(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The last row of each key of a table, of the readings known by now; all columns, or these."""
        chosen = columns or table(name).arrow.names
        empty = table(name).arrow.empty_table().select(chosen)
        known_by = time_array([self._as_of])[0]
        read = (self._lake.read(name, day, chosen) for day in self._lake.partitions(name))
        rows = [day.filter(pc.less_equal(day.column("known_at"), known_by)) for day in read]
        whole = pa.concat_tables([empty, *rows]).sort_by("known_at")
        keys = zip(*(whole.column(column).to_pylist() for column in table(name).sorted_by), strict=True)
        last = {key: place for place, key in enumerate(keys)}
        return whole.take(pa.array(sorted(last.values()), pa.int64()))

    @cached_property
    def _markets(self) -> dict[str, Market]:
        listed = self._newest(_EVENTS, ("venue", "event_id", "slug", "known_at")).to_pylist()
        slugs = {f"{row['venue']}:{row['event_id']}": row["slug"] for row in listed if row["slug"]}
        announced = self._known.filter(pc.is_valid(self._known.column("scheduled_close")))
        schedule = {row["market_key"]: row for row in _first_of_each(announced).to_pylist()}
        found: list[Market] = []
        for day, chosen in self._newest_by_day():
            rows = _readings_of(self._lake.read(_MARKETS, day), chosen)
            outcomes = _outcomes_of(self._lake.read(_INSTRUMENTS, day), chosen)
            oldest = [schedule.get(key) for key in rows.column("market_key").to_pylist()]
            found += markets_from_tables(_with_schedule(rows, oldest), outcomes, slugs)
        return {str(market.key): market for market in sorted(found, key=lambda market: str(market.key))}

    @cached_property
    def _days(self) -> list[tuple[str, ...]]:
        return self._lake.partitions(_MARKETS)

    @cached_property
    def _known(self) -> pa.Table:
        """Each reading of each market: when it was, the schedule that it told, and the number of its day."""
        none = _numbered(table(_MARKETS).arrow.empty_table().select(_READING), 0)
        readings = (self._readings(day, number) for number, day in enumerate(self._days))
        return pa.concat_tables([none, *readings]).sort_by(
            [("market_key", "ascending"), ("known_at", "ascending"), ("day", "ascending")]
        )

    def _newest_by_day(self) -> Iterator[tuple[tuple[str, ...], pa.Table]]:
        """The days that hold the newest reading of any market, with those readings."""
        newest = _last_of_each(self._known)
        for number in newest.column("day").unique().to_pylist():
            yield self._days[number], newest.filter(pc.equal(newest.column("day"), number))

    def _readings(self, day: tuple[str, ...], number: int) -> pa.Table:
        """Who was read on a day and when, as far as it was known, with the number of the day."""
        rows = self._lake.read(_MARKETS, day, _READING)
        return _numbered(
            rows.filter(pc.less_equal(rows.column("known_at"), time_array([self._as_of])[0])), number
        )

    @cached_property
    def _indices(self) -> list[dict[str, list[MarketKey]]]:
        return [self._index(ids_of) for ids_of in _IDS]

    def _index(self, ids_of: Callable[[Market], Iterable[str | None]]) -> dict[str, list[MarketKey]]:
        index: dict[str, list[MarketKey]] = {}
        for market in self._markets.values():
            for text in {text.casefold() for text in ids_of(market) if text}:
                index.setdefault(text, []).append(market.key)
        return index

    def _nearest(self, text: str) -> str:
        if not self._markets:
            return ": the catalog is empty; run `bt fetch`, or materialise catalog/markets in Dagster"
        slugs = (market.slug for market in self._markets.values())
        return did_you_mean(text, [*self._markets, *(slug for slug in slugs if slug)])


def _group(key: str, markets: list[Market]) -> MarketGroup:
    kind = GroupKind.NEG_RISK if markets[0].key.venue is Venue.POLYMARKET else GroupKind.STRIKES
    exclusive = all(market.exclusive_group for market in markets)
    return MarketGroup(key, tuple(market.key for market in markets), exclusive, kind=kind)


def _numbered(rows: pa.Table, day: int) -> pa.Table:
    return rows.append_column("day", pa.repeat(day, len(rows)))


def _last_of_each(rows: pa.Table) -> pa.Table:
    return rows.filter(pa.array(_changes(rows)[1:], pa.bool_()))


def _first_of_each(rows: pa.Table) -> pa.Table:
    return rows.filter(pa.array(_changes(rows)[:-1], pa.bool_()))


def _changes(rows: pa.Table) -> list[bool]:
    """Whether the market changes before each row, and after the last."""
    keys = rows.column("market_key").combine_chunks()
    return [True, *pc.not_equal(keys[1:], keys[:-1]).to_pylist(), True] if len(keys) else [True]


def _readings_of(rows: pa.Table, chosen: pa.Table) -> pa.Table:
    """The rows of exactly these readings."""
    wanted = set(_reading_ids(chosen))
    return rows.filter(pa.array([reading in wanted for reading in _reading_ids(rows)], pa.bool_()))


def _outcomes_of(rows: pa.Table, chosen: pa.Table) -> pa.Table:
    """The outcomes of these markets as the day has them: they are written before the markets, so a killed
    catalog run may have left them one reading ahead, and outcomes do not change."""
    return rows.filter(pc.is_in(rows.column("market_key"), chosen.column("market_key").combine_chunks()))


def _reading_ids(rows: pa.Table) -> list[tuple[str, int]]:
    known_at = rows.column("known_at").cast(pa.int64())
    return list(zip(rows.column("market_key").to_pylist(), known_at.to_pylist(), strict=True))


def _with_schedule(rows: pa.Table, schedules: list[dict[str, object] | None]) -> pa.Table:
    """The rows with the announced schedule in place of their own; without any, they keep theirs."""
    own = rows.select(_SCHEDULE).to_pylist()
    merged = [announced or kept for announced, kept in zip(schedules, own, strict=True)]
    for name in _SCHEDULE:
        values = pa.array([schedule[name] for schedule in merged], rows.schema.field(name).type)
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), values)
    return rows


def _from_url(text: str) -> tuple[str, Venue | None]:
    """The last part of the path of a venue's page, and the venue; other text as it is."""
    if "/" not in text:
        return text, None
    parts = urlsplit(text if "://" in text else f"https://{text}")
    venue = _SITES.get((parts.hostname or "").removeprefix("www."))
    segments = [segment for segment in parts.path.split("/") if segment]
    if venue is None or not segments:
        raise UsageError(f"{text!r} is not a market's page; known sites: {', '.join(_SITES)}")
    return segments[-1], venue
