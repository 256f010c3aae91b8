"""Tables of dated rules as written: how a CSV is read, what each cell means, how one table overlays another.

What the rules mean is told by :mod:`pm_pipeline.markets.rules`; nothing else needs this module.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final

from pm_pipeline.errors import UsageError, did_you_mean
from pm_pipeline.markets.clock import FOREVER, Nanos, TimeError, parse_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.market import TickRange
from pm_pipeline.markets.units import UnitError, parse_decimal, to_micro


class RuleFileError(UsageError):
    """A table of rules that cannot be used: a bad cell, an unknown column, two rows for one moment."""


class Formula(StrEnum):
    """How a fee grows with size and price; ``r`` is the rate and ``e`` the exponent.

    ``CURVE``: ``size * r * (p * (1 - p)) ** e``. ``PRICE_CURVE``: ``size * p * r * (p * (1 - p)) ** e``.
    ``RECEIVED_CURVE``: ``size * r * (p * (1 - p)) ** e`` of what the taker receives, which is contracts worth
    ``p`` each when buying, and dollars when selling. ``NOTIONAL``: ``size * p * r``. ``PER_CONTRACT``:
    ``size * r``.
    """

    CURVE = "curve"
    PRICE_CURVE = "price_curve"
    RECEIVED_CURVE = "received_curve"
    NOTIONAL = "notional"
    PER_CONTRACT = "per_contract"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRow:
    """One row of a table as written: only the cells that its scope states, as text.

    ``rule`` is ``fee_schedule``, ``tick_rule``, ``venue_delay`` or ``settlement_source``.
    """

    rule: str
    venue: Venue
    scope: str
    valid_from: Nanos
    valid_to: Nanos
    cells: Mapping[str, str]
    source: str
    origin: str = field(default="a row", compare=False)

    def holds(self, at: Nanos) -> bool:
        """Whether the row is in force at this moment."""
        return self.valid_from <= at < self.valid_to


def overlay(below: Sequence[RuleRow], above: Sequence[RuleRow]) -> list[RuleRow]:
    """Rows of one scope, cut so that ``above`` decides wherever it holds."""
    edges = sorted({edge for row in (*below, *above) for edge in (row.valid_from, row.valid_to)})
    result: list[RuleRow] = []
    for start, end in pairwise(edges):
        layers = [row for rows in (below, above) for row in rows if row.holds(start)]
        if not layers:
            continue
        cells: dict[str, str] = {}
        for row in layers:
            cells.update(row.cells)
        source = "; ".join(row.source for row in reversed(layers))
        joined = replace(layers[-1], cells=cells, source=source, valid_from=start, valid_to=end)
        if result and replace(result[-1], valid_from=start, valid_to=end) == joined:
            joined = replace(joined, valid_from=result.pop().valid_from)
        result.append(joined)
    return result


def _ranges(text: str) -> tuple[TickRange, ...]:
    """Read ``0.01:0.99:0.01;…`` (start:end:step in dollars)."""
    parts = [part.split(":") for part in text.split(";")]
    if any(len(part) != 3 for part in parts):
        raise ValueError("expected start:end:step, several separated by ';'")
    return tuple(TickRange(to_micro(start), to_micro(end), to_micro(step)) for start, end, step in parts)


def _rate(text: str) -> Decimal:
    to_micro(text)  # the exact formulas of the engine count rates in millionths
    if (rate := parse_decimal(text)) < 0:
        raise ValueError("must not be negative")
    return rate


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"expected one of {', '.join(words)}")
        return text

    return parse


def _flag(text: str) -> bool:
    return _one_of("yes", "no")(text) == "yes"


CELLS: Final[Mapping[str, Mapping[str, Callable[[str], Any]]]] = {
    "fee_schedule": {
        "taker_formula": Formula,
        "taker_rate": _rate,
        "taker_multiplier": _rate,
        "maker_formula": Formula,
        "maker_rate": _rate,
        "maker_multiplier": _rate,
        "exponent": int,
        "charged_per": _one_of("fill", "match"),
        "step": to_micro,
        "rounding": _one_of("floor", "ceil", "half_even"),
        "balance_step": to_micro,
        "rebate_step": to_micro,
        "maker_rebate": _rate,
        "collected": _one_of("cash", "proceeds"),
        "own_terms": _flag,
    },
    "tick_rule": {
        "ranges": _ranges,
        "refined_beyond": to_micro,
        "min_order_size": to_micro,
        "lot": to_micro,
    },
    "venue_delay": {"taker_delay": lambda text: int(text) * 1_000_000},  # written in milliseconds
    "settlement_source": {"name": str, "url": str, "own_terms": _flag},
}
_COMMON: Final = [f.name for f in fields(RuleRow) if f.name not in {"rule", "cells", "origin"}]
_SCOPE: Final = re.compile(r"\*|(market|event|series):\S+|(tag|category):[a-z0-9-]+")


def check_row(row: RuleRow) -> None:
    """Raise :class:`RuleFileError` unless every part of the row can be read."""
    if not _SCOPE.fullmatch(row.scope):
        raise RuleFileError(
            f"{row.origin}: {row.scope!r} is not a scope; write *, category:<slug>, tag:<slug>, "
            "series:<ticker>, event:<id> or market:<key>"
        )
    if row.valid_from >= row.valid_to:
        raise RuleFileError(f"{row.origin}: valid_to must be later than valid_from")
    if not row.source:
        raise RuleFileError(f"{row.origin}: a rule needs a source; say where it is stated, and when")
    for name, text in row.cells.items():
        parse = CELLS[row.rule].get(name)
        if parse is None:
            raise RuleFileError(f"{row.origin}: unknown column {name!r}{did_you_mean(name, CELLS[row.rule])}")
        try:
            parse(text)
        except (ValueError, UnitError) as error:
            raise RuleFileError(f"{row.origin}: {name} cannot be {text!r}: {error}") from error


def read_table(name: str, text: str) -> Iterator[RuleRow]:
    """Rows of one CSV table. Which rule it holds is told by its columns."""
    reader = csv.DictReader(text.splitlines(), strict=True)
    columns = list(reader.fieldnames or ())
    if lacking := [column for column in _COMMON if column not in columns]:
        raise RuleFileError(f"{name} lacks the columns {', '.join(lacking)}")
    stated = [column for column in columns if column not in _COMMON]
    rules = [rule for rule, cells in CELLS.items() if stated and set(stated) <= set(cells)]
    if not rules:
        known = {cell for cells in CELLS.values() for cell in cells}
        odd = next((column for column in stated if column not in known), None)
        hint = (
            f"unknown column {odd!r}{did_you_mean(odd, known)}"
            if odd
            else "the columns of one rule are needed"
        )
        raise RuleFileError(f"{name} is no table of rules: {hint}")
    for cells in reader:
        origin = f"{name} line {reader.line_num}"
        if None in cells or None in cells.values():
            raise RuleFileError(f"{origin} has another number of cells than the header")
        if cells["venue"] not in {*Venue}:
            hint = did_you_mean(cells["venue"], [*Venue])
            raise RuleFileError(f"{origin}: unknown venue {cells['venue']!r}{hint}")
        try:
            start, end = parse_time(cells["valid_from"]), cells["valid_to"]
            until = parse_time(end) if end else FOREVER
        except TimeError as error:
            raise RuleFileError(f"{origin}: {error}") from error
        yield RuleRow(
            rule=rules[0],
            venue=Venue(cells["venue"]),
            scope=cells["scope"],
            valid_from=start,
            valid_to=until,
            cells={column: cells[column] for column in stated if cells[column]},
            source=cells["source"],
            origin=origin,
        )
