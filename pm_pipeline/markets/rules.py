"""Dated rules: what a venue charged, which prices it took, how long it held an order, who decided.

A rule is a row with a scope, a validity interval and a source, never a constant. The rows that ship with the
package lie in ``markets/data/*.csv``; a user adds rows with :meth:`RuleBook.load`.

How a look-up works:

* **Scopes**, narrowest first: ``market:<key>``, ``event:<id>``, ``series:<ticker>``, ``series:<prefix>*``,
  ``tag:<slug>``, ``category:<slug>``, ``*``. A market without a category is matched by its tags, in their
  order; of several prefixes the longest comes first.
* **Cells.** A row states only what its scope changes; an empty cell is taken from the next wider scope. So
  one row says that a series costs half, and the rounding of all series is dated once.
* **Intervals** are half-open, ``[valid_from, valid_to)``, and never overlap within a scope.
* **What the market says itself** (its fee schedule, ticks, resolution source) beats the tables, where the
  rule in force allows it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit

from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.clock import FOREVER, Nanos, format_time, to_datetime, to_nanos
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import Market, TickRange
from pm_pipeline.markets.rule_tables import (
    CELLS,
    Formula,
    RuleFileError,
    RuleRow,
    check_row,
    overlay,
    read_table,
)
from pm_pipeline.markets.units import Micro, Rounding

__all__ = [
    "FeeRule",
    "Formula",
    "KalshiBalance",
    "NoRuleError",
    "Rule",
    "RuleBook",
    "RuleFileError",
    "RuleRow",
    "SettlementSource",
    "TickRule",
    "VenueDelay",
]


class NoRuleError(PipelineError):
    """No dated rule covers this market at this time: the period lies before what the tables know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What all rules share: whom they bind, since when and until when, and who says so.

    Of a looked-up rule, ``scope`` is the narrowest row that had a say, and nothing about the rule changes
    from ``valid_from`` until ``valid_to``, so it may be kept that long.
    """

    venue: Venue
    scope: str
    valid_from: Nanos
    valid_to: Nanos
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeRule(Rule):
    """What a fill costs.

    The model fee uses ``rate * multiplier`` of the side that traded, is rounded to a multiple of ``step``,
    and is computed per ``fill`` or on the whole ``match`` at its average price. ``balance_step`` is the grid
    that a cash change is floored to, at the trader's cost, and ``rebate_step`` the unit in which an order's
    accumulated rounding is paid back; 0 means the venue does neither.
    ``maker_rebate`` is the share of the taker fee that makers get back each day, which no single fill shows.
    ``collected`` says what the fee is taken from: ``cash``, or the ``proceeds`` (shares, when buying).
    ``own_terms`` says whether the schedule attached to a market counts.
    """

    taker_formula: Formula
    taker_rate: Decimal
    taker_multiplier: Decimal
    maker_formula: Formula
    maker_rate: Decimal
    maker_multiplier: Decimal
    exponent: int
    charged_per: Literal["fill", "match"]
    step: Micro
    rounding: Rounding
    balance_step: Micro
    rebate_step: Micro
    maker_rebate: Decimal
    collected: Literal["cash", "proceeds"]
    own_terms: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TickRule(Rule):
    """Which prices and sizes an order may have; sizes are multiples of ``lot``.

    ``refined_beyond``: a market begins on the venue's ``usual`` grid, and gets its finer ``ranges`` once its
    price has been nearer than that to 0 or 1; 0 where markets keep the grid that they were made with.
    """

    ranges: tuple[TickRange, ...]
    refined_beyond: Micro
    min_order_size: Micro
    lot: Micro
    usual: tuple[TickRange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueDelay(Rule):
    """How long the venue itself holds a taker order before it is matched, in nanoseconds."""

    taker_delay: Nanos


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementSource(Rule):
    """Whose word decides the outcome, and where it is published.

    ``own_terms`` says whether a source attached to a market counts. Kalshi attaches it to the series, and
    changes it there, so that an old market would seem to have settled on the new source.
    """

    name: str
    url: str
    own_terms: bool


KalshiBalance: TypeAlias = Literal["direct", "cents"]
"""How finely Kalshi keeps an account: to $0.0001 for direct members, in cents for customers of a broker."""

R = TypeVar("R", bound=Rule)
_Key = tuple[str, Venue, str]
_DATA: Final = "pm_pipeline.markets"


class RuleBook:
    """All dated rules. Never changed after it is built; look-ups are pure.

    Raises
    ------
    RuleFileError
        when two rows of one scope hold at the same moment, or a cell cannot be read.
    """

    def __init__(self, rows: Iterable[RuleRow]) -> None:
        self._rows: dict[_Key, list[RuleRow]] = {}
        for row in rows:
            check_row(row)
            self._rows.setdefault((row.rule, row.venue, row.scope), []).append(row)
        self._families = sorted(
            (key for key in self._rows if _is_family(key[2])), key=lambda key: -len(key[2])
        )
        for same in self._rows.values():
            same.sort(key=lambda row: row.valid_from)
            for earlier, later in pairwise(same):
                if later.valid_from < earlier.valid_to:
                    raise RuleFileError(
                        f"{later.origin} and {earlier.origin} both give the {later.rule} of {later.venue} "
                        f"{later.scope} at {format_time(later.valid_from)}; "
                        "end the first where the second begins"
                    )

    @classmethod
    @cache
    def default(cls) -> Self:
        """The rules that ship with the package; read once, since a book never changes."""
        tables = (resources.files(_DATA) / "data").iterdir()
        found = sorted((t for t in tables if t.name.endswith(".csv")), key=lambda table: table.name)
        return cls(row for table in found for row in read_table(table.name, table.read_text("utf-8")))

    @classmethod
    def load(cls, *paths: Path) -> Self:
        """The packaged rules, overlaid with the user's CSV files: a later file beats an earlier one.

        A file holds one kind of rule, told by its columns. A user's row replaces the cells it states in the
        same scope, for as long as it holds; everything else stays.
        """
        book = cls.default()
        for path in paths:
            try:
                text = path.read_text("utf-8")
            except OSError as error:
                raise RuleFileError(f"cannot read the rules in {path}: {error.strerror}") from error
            book = book.overlaid(read_table(path.name, text))
        return book

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Self:
        """Rebuild from the rows of ``catalog.rules``; the inverse of :meth:`to_rows`."""
        return cls(
            RuleRow(
                rule=row["rule"],
                venue=Venue(row["venue"]),
                scope=row["scope"],
                valid_from=to_nanos(row["valid_from"]),
                valid_to=FOREVER if row["valid_to"] is None else to_nanos(row["valid_to"]),
                cells=json.loads(row["value"]),
                source=row["source"],
                origin=f"catalog.rules {row['rule']} {row['scope']}",
            )
            for row in rows
        )

    def to_rows(self) -> list[dict[str, object]]:
        """The rows of table ``catalog.rules``, in the order of its key."""
        return [
            {
                "rule": row.rule,
                "venue": str(row.venue),
                "scope": row.scope,
                "valid_from": to_datetime(row.valid_from),
                "valid_to": None if row.valid_to == FOREVER else to_datetime(row.valid_to),
                "value": json.dumps(dict(row.cells), sort_keys=True),
                "source": row.source,
            }
            for key in sorted(self._rows)
            for row in self._rows[key]
        ]

    def overlaid(self, rows: Iterable[RuleRow]) -> Self:
        """A book in which these rows beat the present ones; how a market's fee waiver is added."""
        layer = type(self)(rows)
        merged = self._rows | {
            key: overlay(self._rows.get(key, []), above) for key, above in layer._rows.items()
        }
        return type(self)(row for same in merged.values() for row in same)

    def for_account(self, *, kalshi_balance: KalshiBalance = "direct") -> Self:
        """The rules as they bind one account. ``cents``: a Kalshi balance is kept, and rebated, in cents."""
        if kalshi_balance == "direct":
            return self
        table = resources.files(_DATA) / "data" / "accounts" / f"kalshi_{kalshi_balance}.csv"
        return self.overlaid(read_table(table.name, table.read_text("utf-8")))

    def fee(self, market: Market, at: Nanos) -> FeeRule:
        """The fee schedule of a market. Where the era allows it, the market's own terms come first.

        A market that says of itself that it is free has always been: Polymarket's fees came with new markets
        and left those that existed alone.

        Raises :class:`NoRuleError` before the first rule of the venue.
        """
        rule = self._find("fee_schedule", FeeRule, market, at)
        terms = market.fee_terms
        free = terms is not None and not terms.rate and market.key.venue is Venue.POLYMARKET
        if terms is None or not (rule.own_terms or free):
            return rule
        return replace(
            rule,
            scope=f"market:{market.key}",
            taker_rate=terms.rate,
            maker_rate=Decimal(0) if terms.taker_only else terms.rate,
            exponent=terms.exponent,
            maker_rebate=terms.rebate_rate,
            source=f"the market's own schedule; {rule.source}",
        )

    def tick(self, market: Market, at: Nanos) -> TickRule:
        """The prices and sizes a market takes: those it lists itself, else the venue's usual ones."""
        rule = self._find("tick_rule", TickRule, market, at)
        if not market.ticks:
            return rule
        return replace(
            rule,
            scope=f"market:{market.key}",
            ranges=market.ticks,
            usual=rule.ranges,
            min_order_size=market.min_order_size,
            source="listed by the venue on the market",
        )

    def delay(self, market: Market, at: Nanos) -> Nanos:
        """How long the venue holds a taker order of this market before matching it."""
        return self._find("venue_delay", VenueDelay, market, at).taker_delay

    def settlement_source(self, market: Market, at: Nanos) -> SettlementSource:
        """Who decides the outcome. ``at`` is when the event happens: for weather, the start of its day.

        The source named in a market's own rules comes first where the venue writes one per market.
        """
        rule = self._find("settlement_source", SettlementSource, market, at)
        url = market.resolution_source
        if not url or not rule.own_terms:
            return rule
        return replace(
            rule,
            scope=f"market:{market.key}",
            name=urlsplit(url).netloc or url,
            url=url,
            source="named in the market's own rules",
        )

    def _find(self, rule: str, record: type[R], market: Market, at: Nanos) -> R:
        venue = market.key.venue
        candidates = list(self._candidates(rule, market))
        holding = [row for row in candidates if row.holds(at)]
        cells: dict[str, str] = {}
        for row in holding:
            cells = {**row.cells, **cells}
        parsers = CELLS[rule]
        missing = [name for name in parsers if name not in cells]
        if missing:
            starts = [row.valid_from for row in candidates if row.scope == "*"]
            known = f"the tables begin at {format_time(min(starts))}" if starts else "the tables have none"
            raise NoRuleError(
                f"no {rule} for {market.key} at {format_time(at)} ({', '.join(missing)} unknown): {known}; "
                "choose a later time, or add a row in a CSV file given to RuleBook.load"
            )
        edges = [edge for row in candidates for edge in (row.valid_from, row.valid_to)]
        return record(
            venue=venue,
            scope=holding[0].scope,
            valid_from=max(edge for edge in edges if edge <= at),
            valid_to=min(edge for edge in edges if edge > at),
            source="; ".join(dict.fromkeys(row.source for row in holding)),
            **{name: parse(cells[name]) for name, parse in parsers.items()},
        )

    def _candidates(self, rule: str, market: Market) -> Iterator[RuleRow]:
        """All rows that could bind the market, narrowest scope first."""
        venue = market.key.venue
        for scope in _scopes(market):
            yield from self._rows.get((rule, venue, scope), ())
            if scope.startswith("series:"):
                for key in self._families:
                    if key[:2] == (rule, venue) and scope.startswith(key[2].removesuffix("*")):
                        yield from self._rows[key]


def _is_family(scope: str) -> bool:
    return scope != "*" and scope.endswith("*")


def _scopes(market: Market) -> Iterator[str]:
    """The scopes of a market, narrowest first."""
    yield f"market:{market.key}"
    if market.event_id:
        yield f"event:{market.event_id}"
    if market.series:
        yield f"series:{market.series}"
    elif market.key.venue is Venue.KALSHI:
        yield f"series:{market.key.native_id.partition('-')[0]}"
    tags = [_slug(tag) for tag in market.tags]
    yield from (f"tag:{tag}" for tag in tags)
    yield from (f"category:{name}" for name in ([_slug(market.category)] if market.category else tags))
    yield "*"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")
