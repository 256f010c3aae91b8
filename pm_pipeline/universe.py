"""The universe: which markets to follow, chosen by filters in YAML."""

from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pm_pipeline.config import Settings, explain, read_yaml
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import DAY, parse_time
from pm_pipeline.markets.keys import MarketKey, Venue
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.adapter import Selection
from pm_pipeline.sources.connect import SourceMode
from pm_pipeline.sources.polymarket.catalog import names
from pm_pipeline.sources.polymarket.catalog.names import NameKind

VENUES: Final = (Venue.POLYMARKET, Venue.KALSHI)
"""Venues with a client."""


class MarketFilter(BaseModel):
    """One way to choose markets; what is left out does not restrict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    venue: Venue = Field(description="polymarket or kalshi")
    ids: tuple[str, ...] = Field(
        (), description="market keys, or any name by which the venue knows a market: see docs"
    )
    series: tuple[str, ...] = Field((), description="Kalshi series tickers or Gamma series slugs")
    category: str | None = Field(None, description="the venue's category")
    tags: tuple[str, ...] = Field((), description="any of these tags")
    min_volume_usd: int = Field(0, ge=0, description="dollars traded; known only afterwards, so it selects")
    closes_from: date | None = Field(None, description="scheduled to close on this UTC day or later")
    closes_to: date | None = Field(None, description="scheduled to close on this UTC day or earlier")
    limit: int | None = Field(None, gt=0, description="at most this many, by market key")

    @model_validator(mode="after")
    def _dates_in_order(self) -> Self:
        if self.closes_from and self.closes_to and self.closes_to < self.closes_from:
            raise ValueError(f"closes_to {self.closes_to} is before closes_from {self.closes_from}")
        return self

    @model_validator(mode="after")
    def _ids_of_the_venue(self) -> Self:
        for name in self.ids:
            if self.venue is Venue.POLYMARKET:
                names.parse(name)
            elif "/" in name:
                raise ValueError(f"{name!r} is a page; {self.venue} names its markets by ticker")
            elif ":" in name and MarketKey.parse(name).venue is not self.venue:
                raise ValueError(f"{name!r} is no market of {self.venue}")
        return self

    def selection(self) -> Selection:
        """What to ask the venue for; it may give more than the filter wants."""
        return Selection(
            venue=self.venue,
            ids=tuple(map(_native, self.ids)),
            series=self.series,
            category=self.category,
            tags=self.tags,
            min_volume=self.min_volume_usd * MICRO or None,
            closes_from=parse_time(self.closes_from.isoformat()) if self.closes_from else None,
            closes_to=parse_time(self.closes_to.isoformat()) + DAY - 1 if self.closes_to else None,
            limit=self.limit,
        )

    def choose(self, markets: Iterable[Market]) -> list[Market]:
        """The markets that the filter wants, in order of their keys."""
        wanted = self.selection()
        of_venue = [market for market in markets if market.key.venue is self.venue]
        named = self._named(of_venue)
        chosen = (market for market in of_venue if named(market) and wanted.holds(market))
        return sorted(chosen, key=lambda market: market.key)[: self.limit]

    def later_knowledge(self) -> tuple[str, ...]:
        """The filters that rest on what was only known afterwards."""
        return ("min_volume_usd",) if self.min_volume_usd else ()

    def _named(self, markets: Iterable[Market]) -> Callable[[Market], bool]:
        """Whether a market bears one of the ids; a slug that no market bears is that of an event."""
        if not self.ids:
            return lambda market: True
        if self.venue is not Venue.POLYMARKET:
            native = set(map(_native, self.ids))
            return lambda market: market.key.native_id in native
        given = {names.parse(name) for name in self.ids}
        slugs = {market.slug for market in markets}
        of_market = {name.text for name in given if name.kind is not NameKind.EVENT_SLUG}
        of_event = {
            name.text
            for name in given
            if name.kind is NameKind.EVENT_SLUG or (name.kind is NameKind.SLUG and name.text not in slugs)
        }
        return lambda market: market.event_slug in of_event or not of_market.isdisjoint(_ids(market))


def _ids(market: Market) -> Iterable[str]:
    """Everything but its key that names a Polymarket market, in the venue's spelling."""
    own = (market.key.native_id, market.slug, market.condition_id, market.question_id)
    assets = (asset for outcome in market.instruments for asset in (outcome.token_id, outcome.position_id))
    return (name for name in (*own, *assets) if name)


def _native(name: str) -> str:
    """The venue's own id in a key; other names, such as pages, as they are."""
    return MarketKey.parse(name).native_id if ":" in name and "/" not in name else name


class Universe(BaseModel):
    """Which markets to follow: those that any of the filters chooses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    markets: tuple[MarketFilter, ...] = Field(min_length=1)

    @classmethod
    def everything(cls) -> Self:
        """Every market of every venue: right for a sandbox, far too much for the live venues."""
        return cls(markets=tuple(MarketFilter(venue=venue) for venue in VENUES))

    def later_knowledge(self) -> tuple[str, ...]:
        """The filters of the universe that rest on what was only known afterwards."""
        return tuple(sorted({name for wanted in self.markets for name in wanted.later_knowledge()}))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a YAML file. Raises :class:`UsageError` that names the key at fault."""
        return cls.parse(read_yaml(path, "examples/universe.yaml"), str(path))

    @classmethod
    def parse(cls, content: object, where: str) -> Self:
        """Validate plain data. Raises :class:`UsageError` that names the key at fault."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise explain(where, error, cls) from None


def choose(universe: Universe, markets: Iterable[Market]) -> list[Market]:
    """The markets of the universe, each once, in order of their keys."""
    known = list(markets)
    found = {market.key: market for wanted in universe.markets for market in wanted.choose(known)}
    return [found[key] for key in sorted(found)]


def universe_of(settings: Settings) -> Universe:
    """The configured universe; in the sandbox everything, live an error that asks for one."""
    if settings.universe:
        return Universe.read(settings.universe)
    if settings.source is SourceMode.SANDBOX:
        return Universe.everything()
    raise UsageError(
        "no universe is configured, and following every market of a live venue is never what you want; "
        "set PM_UNIVERSE to a file like examples/universe.yaml"
    )
