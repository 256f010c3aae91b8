"""Tries to catch a strategy that looks ahead: ask it again where the future does not exist, or is noise.

Two tests of sampled signals, each on a private copy of the market's tables:

* **truncation**: without every row known after the decision, all signals up to it must be the same.
* **poison**: with every row known after the decision made up, once far down and once far up, the same (who
  traded, and on which side, is made up too); and with noise in every row known after the signal's own
  ``inputs_known_at``, that signal must still be made, or its claim was false.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pm_pipeline.engine.signals import LookAheadError, Signal, Signals
from pm_pipeline.markets.clock import Nanos, format_time, to_datetime
from pm_pipeline.markets.units import MICRO
from pm_pipeline.warehouse.asof import AsOfView, MarketData, view_of
from pm_pipeline.warehouse.columns import Kind


class SignalMaker(Protocol):
    """What the check needs of a strategy."""

    def signals(self, view: AsOfView) -> Signals:
        """The signals of a view."""


class Probe(StrEnum):
    """How a leak was found."""

    TRUNCATION = "truncation"
    POISON = "poison"
    CLAIM = "claim"


@dataclass(frozen=True, slots=True)
class Leak:
    """One proof of look-ahead: the decision at ``ts`` changed when the future was taken away or replaced."""

    ts: Nanos
    probe: Probe
    detail: str


def find_lookahead(
    strategy: SignalMaker, view: AsOfView, signals: Signals, sample: int = 20, seed: int = 0
) -> list[Leak]:
    """Test up to ``sample`` signals, drawn by ``seed``, of those that ``strategy`` made of ``view``.

    An empty list means that none was caught, which is not a proof. The order is that of the signals.
    """
    rng = np.random.default_rng(seed)
    count = min(sample, len(signals))
    leaks: list[Leak] = []
    for i in sorted(rng.choice(len(signals), count, replace=False).tolist()) if count else []:
        signal = signals.items[i]
        expected = signals.until(signal.ts)
        for probe, known_until, cents in (
            (Probe.TRUNCATION, signal.ts, None),
            (Probe.POISON, signal.ts, _LOW),
            (Probe.POISON, signal.ts, _HIGH),
            (Probe.CLAIM, signal.inputs_known_at, _ANY),
        ):
            copy = _altered(view, known_until, None if cents is None else _noise(rng, *cents))
            until = signal.ts if cents is None else view.until
            found = _ask(strategy, view_of(copy, until))
            if isinstance(found, str):
                leaks.append(Leak(signal.ts, probe, found))
            elif probe is Probe.CLAIM:
                if signal not in found:
                    known = format_time(known_until)
                    leaks.append(Leak(signal.ts, probe, f"it changed with rows known after {known}"))
            elif (now := found.until(signal.ts)) != expected:
                leaks.append(Leak(signal.ts, probe, _difference(expected, now)))
    return leaks


def _ask(strategy: SignalMaker, view: AsOfView) -> Signals | str:
    try:
        return strategy.signals(view)
    except LookAheadError as error:
        return str(error)


def _difference(expected: tuple[Signal, ...], found: tuple[Signal, ...]) -> str:
    missing, extra = [s for s in expected if s not in found], [s for s in found if s not in expected]
    first = (missing or extra)[0]
    verb = "vanished" if missing else "appeared"
    return (
        f"{len(missing)} signals vanished and {len(extra)} appeared; the first that {verb} is to "
        f"{first.action} outcome {first.outcome_index} at {format_time(first.ts)}"
    )


_LOW: Final = (1, 20)
_HIGH: Final = (80, 100)
_ANY: Final = (1, 100)
"""What a made-up value may be, in cents. Who only asks on which side of a price the future lies is caught by
one of the first two."""

_Noise: TypeAlias = Callable[[int], npt.NDArray[np.int64]]


def _noise(rng: np.random.Generator, low: int, high: int) -> _Noise:
    return lambda count: rng.integers(low, high, count)


def _altered(view: AsOfView, known_until: Nanos, noise: _Noise | None) -> MarketData:
    """A copy of the data behind a view without the rows known later, or with noise in their values."""
    # On purpose through the private door: a strategy might have climbed through it too.
    read: Callable[[str], pa.Table | None] = view._data._read

    def cut(name: str) -> pa.Table | None:
        rows = read(name)
        if rows is None:
            return None
        known = pc.less_equal(rows.column("known_at"), pa.scalar(to_datetime(known_until), Kind.TIME.value))
        if noise is None:
            return rows.filter(known)
        return _poisoned(name, rows, known, noise)

    return MarketData(view._data.market, cut)


def _poisoned(table: str, rows: pa.Table, known: pa.ChunkedArray, noise: _Noise) -> pa.Table:
    for name in _VALUES:
        if name in rows.column_names:
            values = pa.array(noise(len(rows)) * (MICRO // 100), rows.column(name).type)
            rows = _made_up(rows, name, known, values)
    if table not in _EXECUTIONS:
        return rows
    for name, (low, high) in _CHOICES.items():
        if name in rows.column_names:
            made_up = [high if cents >= _HALF else low for cents in noise(len(rows)).tolist()]
            rows = _made_up(rows, name, known, pa.array(made_up, rows.column(name).type))
    text = pa.types.is_string(rows.schema.field("wallet").type)
    nobodies = [bytes([cents]) * 20 for cents in noise(len(rows)).tolist()]
    wallets = ["0x" + nobody.hex() for nobody in nobodies] if text else nobodies
    return _made_up(rows, "wallet", known, pa.array(wallets, rows.schema.field("wallet").type))


def _made_up(rows: pa.Table, name: str, known: pa.ChunkedArray, values: pa.Array) -> pa.Table:
    """The rows with made-up values in a column, where they were not known; null stays null."""
    at, old = rows.column_names.index(name), rows.column(name)
    new = pc.if_else(known, old, pc.if_else(pc.is_null(old), old, values))
    return rows.set_column(at, rows.schema.field(at), new)


_VALUES: Final = ("mid", "bid", "ask", "price", "size")

_EXECUTIONS: Final = frozenset({"market_data.trades", "market_data.wallet_fills"})
"""Tables that say who did what: the side, the role, the outcome and the wallet are made up too."""
_CHOICES: Final[Mapping[str, tuple[object, object]]] = {
    "side": ("sell", "buy"),
    "role": ("maker", "taker"),
    "outcome_index": (0, 1),
}
"""What stands for a made-up value that is low, and for one that is high."""
_HALF: Final = 50
