"""Whether what a wallet holds follows from what it did: two answers of one venue about the same thing."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import pyarrow as pa

from pm_pipeline.markets.units import MICRO, Micro, from_micro

DUST: Final[Micro] = MICRO // 10
"""Contracts that the venue itself does not count as a position."""

_SETS: Final = {"split": 1, "merge": -1}
_UNTOLD: Final = frozenset({"conversion", "migration"})
"""Kinds that turn contracts of one market into those of others, which the feed does not spell out."""


class Difference(NamedTuple):
    """One outcome of which a wallet holds another amount than its activity left."""

    token_id: str
    by_activity: Micro
    by_position: Micro

    def __str__(self) -> str:
        told = f"{from_micro(self.by_activity):f} by activity, {from_micro(self.by_position):f} by position"
        return f"token {self.token_id[:12]}…: {told}"


def net_contracts(activity: pa.Table, outcomes: dict[str, set[str]]) -> dict[str, Micro]:
    """Contracts left of each token, summed over everything a wallet did.

    ``outcomes`` names the tokens of each condition, for what is done with full sets. A redemption that names
    no outcome pays all of them. Markets with conversions or migrations are left out: nobody can tell.
    """
    left: dict[str, Micro] = {}
    untold: set[str] = set()
    for kind, condition, token, side, size in _rows(activity):
        tokens = outcomes.get(condition or "", set()) | ({token} if token else set())
        if kind in _UNTOLD:
            untold |= tokens
        elif kind == "trade" and token:
            left[token] = left.get(token, 0) + (size if side == "buy" else -size)
        elif kind in _SETS:
            for each in tokens:
                left[each] = left.get(each, 0) + _SETS[kind] * size
        elif kind == "redeem":
            left |= {token: left.get(token, 0) - size} if token else dict.fromkeys(tokens, 0)
    return {token: amount for token, amount in left.items() if token not in untold}


def differences(activity: pa.Table, positions: pa.Table) -> Iterator[Difference]:
    """Where the position of a token is not what the activity left, by more than dust.

    ``positions`` is one reading. Tokens whose activity cannot be summed are passed over, and so are those of
    which nothing is told where a conversion or migration may have brought them.
    """
    outcomes: dict[str, set[str]] = {}
    for rows in (activity, positions):
        pairs = zip(rows["condition_id"].to_pylist(), rows["token_id"].to_pylist(), strict=True)
        for condition, token in pairs:
            if condition and token:
                outcomes.setdefault(condition, set()).add(token)
    held = dict(zip(positions["token_id"].to_pylist(), positions["size"].to_pylist(), strict=True))
    left = net_contracts(activity, outcomes)
    if _UNTOLD.isdisjoint(activity["kind"].to_pylist()):
        left = dict.fromkeys(held, 0) | left
    for token, amount in sorted(left.items()):
        if abs(amount - held.get(token, 0)) > DUST:
            yield Difference(token, amount, held.get(token, 0))


def _rows(activity: pa.Table) -> Iterator[tuple[str, str | None, str | None, str | None, Micro]]:
    columns = (
        activity.column(name).to_pylist() for name in ("kind", "condition_id", "token_id", "side", "size")
    )
    return zip(*columns, strict=True)
