"""Signals: what a strategy wants, when, and the latest thing it knew.

A signal is checked when it enters a :class:`Signals`: one that rests on knowledge later than its decision is
a :class:`LookAheadError`, never a row.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self, overload

import pyarrow as pa

from pm_pipeline.engine.reasons import Reason
from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.clock import Nanos, format_time, to_datetime, to_nanos
from pm_pipeline.markets.keys import MarketKey
from pm_pipeline.markets.trade import Side
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.warehouse.asof import LookAheadError
from pm_pipeline.warehouse.schema import table

__all__ = [
    "Action",
    "LookAheadError",
    "Signal",
    "SignalError",
    "Signals",
    "Skip",
    "dump_skips",
    "load_skips",
]

_SCHEMA: Final = table("backtest.signals").arrow


class SignalError(PipelineError):
    """A signal that cannot mean anything: a price outside [0, 1], a stake of nothing."""


class Action(StrEnum):
    """What a signal asks for.

    ``ENTER`` buys at once, ``EXIT`` sells the whole position at once. ``QUOTE`` wants an order to rest in the
    book under a name of the strategy's choice: it is sent, or the one of that name is amended. ``CANCEL``
    takes it back. ``SPLIT`` makes ``size`` full sets of dollars, ``MERGE`` dollars of sets.
    """

    ENTER = "enter"
    EXIT = "exit"
    QUOTE = "quote"
    CANCEL = "cancel"
    SPLIT = "split"
    MERGE = "merge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One decision about one outcome. Prices, ``trailing`` and ``stake`` are in micro-dollars.

    ``stake`` is what to spend, fees included; ``None`` leaves it to the run. ``stop_price``,
    ``target_price``, ``trailing`` and ``exit_at`` are the exit rules of the position that an entry opens;
    see ``docs/engine.md``.

    The rest belongs to orders. ``all_or_none`` makes an entry fill whole or not at all. ``name``, ``side``,
    ``size`` (contracts still to be filled) and ``limit_price`` describe a quote, which ends at
    ``expires_at``; one that is ``post_only`` never takes. An order is known by outcome, side and name.
    """

    ts: Nanos
    inputs_known_at: Nanos
    outcome_index: int
    action: Action
    p_hat: float | None = None
    p_se: float | None = None
    p_market: float | None = None
    limit_price: Micro | None = None
    stake: Micro | None = None
    stop_price: Micro | None = None
    target_price: Micro | None = None
    trailing: Micro | None = None
    exit_at: Nanos | None = None
    tag: str = ""
    all_or_none: bool = False
    name: str = ""
    side: Side = Side.BUY
    size: Micro | None = None
    post_only: bool = True
    expires_at: Nanos | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """A decision not to act, with its reason and the figures behind it; it ends as a rejection."""

    ts: Nanos
    reason: str
    detail: str = ""
    outcome_index: int | None = None


def dump_skips(skips: Iterable[Skip]) -> str:
    """Skips as JSON text, to be kept beside the table of signals; exact to the nanosecond."""
    return json.dumps([[s.ts, s.reason, s.detail, s.outcome_index] for s in skips])


def load_skips(text: str) -> tuple[Skip, ...]:
    """Read back what :func:`dump_skips` wrote."""
    return tuple(Skip(*fields) for fields in json.loads(text))


@dataclass(frozen=True, slots=True)
class Signals(Sequence[Signal]):
    """The signals of one strategy on one market, in order of time, and what it passed over.

    Build it with :meth:`of`, which checks and sorts.
    """

    items: tuple[Signal, ...] = ()
    skipped: tuple[Skip, ...] = ()

    @classmethod
    def of(cls, signals: Iterable[Signal], skipped: Iterable[Skip] = ()) -> Self:
        """Check and sort. A probability that is NaN becomes null, and a :class:`Skip` says so.

        Raises
        ------
        LookAheadError
            where ``inputs_known_at`` is after ``ts``.
        SignalError
            where a price, a stake or a probability is out of its range.
        """
        items: list[Signal] = []
        skips = list(skipped)
        for signal in signals:
            check_signal(signal)
            named = [n for n in _PROBABILITIES if _is_nan(getattr(signal, n))]
            if named:
                detail = f"{' and '.join(named)} of the signal to {signal.action} is NaN"
                skips.append(Skip(signal.ts, Reason.UNDEFINED_PROBABILITY, detail, signal.outcome_index))
            p_hat, p_se, p_market = (_number(getattr(signal, name)) for name in _PROBABILITIES)
            items.append(replace(signal, p_hat=p_hat, p_se=p_se, p_market=p_market))
        items.sort(key=lambda s: (s.ts, s.outcome_index, s.action, s.side, s.name))
        skips.sort(key=lambda s: (s.ts, s.reason, s.detail))
        return cls(tuple(items), tuple(skips))

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Signal]:
        return iter(self.items)

    @overload
    def __getitem__(self, index: int) -> Signal: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Signal, ...]: ...

    def __getitem__(self, index: int | slice) -> Signal | tuple[Signal, ...]:
        """The signal at ``index``, or a tuple of them for a slice."""
        return self.items[index]

    def until(self, t: Nanos) -> tuple[Signal, ...]:
        """The signals decided at or before ``t``."""
        return tuple(s for s in self.items if s.ts <= t)

    def to_table(self, strategy: str, market_key: MarketKey | str, run_id: str) -> pa.Table:
        """The rows of ``backtest.signals``. Times are cut to microseconds. ``skipped`` is not in it:
        keep :func:`dump_skips` beside it."""
        rows = [
            {
                "strategy": strategy,
                "market_key": str(market_key),
                "outcome_index": s.outcome_index,
                "ts": to_datetime(s.ts),
                "inputs_known_at": to_datetime(s.inputs_known_at),
                "action": str(s.action),
                "side": str(s.side),
                "tag": s.tag,
                "run_id": run_id,
                **{name: getattr(s, name) for name in _PLAIN},
                **{name: _moment(getattr(s, name)) for name in _TIMES},
            }
            for s in self.items
        ]
        return pa.Table.from_pylist(rows, schema=_SCHEMA)

    @classmethod
    def from_table(cls, rows: pa.Table, skipped: Iterable[Skip] = ()) -> Self:
        """Read back what :meth:`to_table` wrote; checked again as it enters."""
        return cls.of(
            (
                Signal(
                    ts=to_nanos(row["ts"]),
                    inputs_known_at=to_nanos(row["inputs_known_at"]),
                    outcome_index=row["outcome_index"],
                    action=Action(row["action"]),
                    side=Side(row["side"]),
                    tag=row["tag"],
                    **_from_row(row),
                )
                for row in rows.to_pylist()
            ),
            skipped,
        )


_PROBABILITIES: Final = ("p_hat", "p_se", "p_market")
_PRICES: Final = ("limit_price", "stop_price", "target_price", "trailing")
_PLAIN: Final = (*_PROBABILITIES, *_PRICES, "stake", "size", "name", "all_or_none", "post_only")
_TIMES: Final = ("exit_at", "expires_at")


def _from_row(row: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: row[name] for name in _PLAIN}
    return plain | {name: None if row[name] is None else to_nanos(row[name]) for name in _TIMES}


def _moment(at: Nanos | None) -> datetime | None:
    return None if at is None else to_datetime(at)


def _is_nan(value: float | None) -> bool:
    return value is not None and math.isnan(value)


def _number(value: float | None) -> float | None:
    return None if _is_nan(value) else value


def check_signal(signal: Signal) -> None:
    """Raise :class:`LookAheadError` or :class:`SignalError` where a signal cannot mean anything."""
    if signal.inputs_known_at > signal.ts:
        raise LookAheadError(
            f"the signal to {signal.action} outcome {signal.outcome_index} at {format_time(signal.ts)} "
            f"uses what was only known at {format_time(signal.inputs_known_at)}; decide later, or use less"
        )
    for name in _PRICES:
        price = getattr(signal, name)
        if price is not None and not 0 <= price <= MICRO:
            raise SignalError(f"{name} is {price} millionths of a dollar; prices lie between 0 and {MICRO}")
    for name in ("p_hat", "p_market"):
        p = getattr(signal, name)
        if p is not None and not math.isnan(p) and not 0.0 <= p <= 1.0:
            raise SignalError(f"{name} is {p}; a probability lies between 0 and 1")
    if signal.p_se is not None and signal.p_se < 0:
        raise SignalError(f"p_se is {signal.p_se}; a standard error is not negative")
    for name in ("stake", "size"):
        amount = getattr(signal, name)
        if amount is not None and amount <= 0:
            raise SignalError(f"{name} is {amount} millionths; it must be positive")
    for name in _TIMES:
        at = getattr(signal, name)
        if at is not None and at <= signal.ts:
            raise SignalError(f"{name} {format_time(at)} is not after the decision")
    if signal.action is Action.QUOTE and signal.limit_price is None:
        raise SignalError("a quote needs a limit_price to rest at")
    if signal.action is Action.SPLIT and signal.size is None:
        raise SignalError("a split needs a size: how many sets")
    if signal.outcome_index < 0:
        raise SignalError(f"outcome_index is {signal.outcome_index}; outcomes count from 0")
