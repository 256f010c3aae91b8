"""Outcomes keep their place: prices, trades and fills of a market are stored by the number of an outcome.

A listing that gives a known outcome another token, or two outcomes each other's names, would turn every
position of that market around without a word. Such a market is left as it was read before.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.sources.listings import KEYS

_NAMED_BY: Final = ("token_id", "position_id", "label")


@dataclass(frozen=True, slots=True)
class Moved:
    """An outcome that is not what it was: the column that tells, and its value then and now."""

    market_key: str
    outcome_index: int
    column: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"outcome {self.outcome_index} had the {self.column} {self.before} and now has {self.now}"


def moved(listed: pa.Table, former: pa.Table) -> list[Moved]:
    """The outcomes of a listing that contradict a former one; both are rows of ``catalog.instruments``.

    An id never changes once it is known. A label may be worded anew (a team for "Yes"), but not be that
    which another outcome of the market had.
    """
    shared = former.filter(pc.is_in(former["market_key"], pc.unique(listed["market_key"])))
    before = {(key, outcome): names for key, outcome, *names in _outcomes(shared)}
    labels = {(key, names[-1]) for key, _, *names in _outcomes(shared)}
    found = []
    for key, outcome, *names in _outcomes(listed):
        for column, then, now in zip(_NAMED_BY, before.get((key, outcome), names), names, strict=True):
            known = then is not None and now is not None
            if known and then != now and (column != "label" or (key, now) in labels):
                found.append(Moved(key, outcome, column, then, now))
                break
    return found


def without(tables: Mapping[str, pa.Table], market_keys: set[str]) -> dict[str, pa.Table]:
    """The rows of a catalog, without those of these markets."""
    left_out = pa.array(sorted(market_keys), pa.string())
    return {
        name: rows.filter(pc.invert(pc.is_in(rows["market_key"], left_out)))
        if "market_key" in KEYS[name]
        else rows
        for name, rows in tables.items()
    }


def _outcomes(rows: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Market, number of the outcome, and what names it."""
    columns = ("market_key", "outcome_index", *_NAMED_BY)
    return zip(*(rows[column].to_pylist() for column in columns), strict=True)
