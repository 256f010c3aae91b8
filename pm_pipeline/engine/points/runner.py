"""Running rules or signals over points: with one bankroll, or each market with its own."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from pm_pipeline.engine.kernel.cache import compile_entry
from pm_pipeline.engine.kernel.orders import Records
from pm_pipeline.engine.points.alone import advance_each, sweep_each
from pm_pipeline.engine.points.fees import LARGEST
from pm_pipeline.engine.points.layout import Points
from pm_pipeline.engine.points.records import (
    BLOCK,
    CODES,
    REGIME,
    SIGNAL,
    STATE,
    TERMS,
    Fault,
    Formula,
    Refusal,
    Rounding,
    Sized,
    Tables,
    dtype_of,
)
from pm_pipeline.engine.points.rules import ZRule, price_extremes, score_extremes, z_rows
from pm_pipeline.engine.points.run import advance
from pm_pipeline.engine.risk.limits import RiskLimits
from pm_pipeline.engine.scenarios import LiquidityModel, Mark, QuoteRule, Scenario, Terms
from pm_pipeline.engine.signals import Action, Signal, Signals
from pm_pipeline.engine.simulation.state import RunConfig
from pm_pipeline.engine.sizing import SizingMode
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import FOREVER
from pm_pipeline.markets.units import MICRO
from pm_pipeline.warehouse.records import Ints

Source = ZRule | Mapping[str, Signals]
"""Who decides: a rule for all markets, or the signals of each by its key."""

Bankroll = Literal["shared", "each"]
"""One bankroll for all markets, their events merged in time; or one for each, as if it were alone."""

CHUNK: Final = 1 << 19
"""Rows that a thread works on at once where markets stand alone."""


@dataclass(frozen=True, slots=True, eq=False)
class PointsResult:
    """What came of it, in the order in which it happened (market by market where each stands alone).

    ``fills``, ``trades``, ``decisions`` and ``curve`` are records of the types in ``records``; markets are
    numbers in ``keys``. ``refusals`` counts what was not done, by the codes of ``simulate``. ``decisions``
    are those of a rule; ``curve`` is the equity of a shared bankroll at each midnight, at each moment at
    which money moved, and at the end.
    """

    keys: tuple[str, ...]
    fills: Records
    trades: Records
    decisions: Records
    curve: Records
    refusals: Mapping[str, int]

    @property
    def pnl(self) -> Any:
        """Profit of each trade after fees, micro-dollars."""
        return self.trades["proceeds"] - self.trades["cost"] - self.trades["fees"]

    def market_pnl(self) -> Any:
        """Profit of each market after fees, micro-dollars."""
        found = np.zeros(len(self.keys), np.int64)
        np.add.at(found, self.trades["market"], self.pnl)
        return found

    def signals(self) -> dict[str, Signals]:
        """The decisions of a rule as signals by market, as ``simulate`` takes them."""
        found: dict[str, list[Signal]] = {key: [] for key in self.keys}
        for row in self.decisions:
            found[self.keys[row["market"]]].append(_signal(row))
        return {key: Signals.of(signals) for key, signals in found.items()}


def _signal(row: Any) -> Signal:
    at = int(row["at"])
    prices = {n: int(row[n]) if row[n] >= 0 else None for n in ("stop", "target", "trailing", "exit_at")}
    return Signal(
        ts=at,
        inputs_known_at=at,
        outcome_index=int(row["outcome"]),
        action=Action.ENTER if row["enters"] else Action.EXIT,
        p_hat=None if np.isnan(row["p"]) else float(row["p"]),
        stop_price=prices["stop"],
        target_price=prices["target"],
        trailing=prices["trailing"],
        exit_at=prices["exit_at"],
    )


def warm(say: Callable[[str], None] | None = None) -> None:
    """Compile the loops, or load them from the cache; ``say`` is told before anything takes seconds.

    Each is also made ready when it is first needed; a program that wants no pause then calls this before.
    """
    ready(advance, advance_each, sweep_each, z_rows, say=say)


def ready(*functions: Any, say: Callable[[str], None] | None = None) -> None:
    """Make some loops ready, and what all of them need."""
    for function in (*functions, price_extremes, score_extremes):
        compile_entry(function, say)


def play(
    points: Points,
    source: Source,
    config: RunConfig,
    scenario: Scenario,
    *,
    bankroll: Bankroll = "shared",
    threads: int = 1,
) -> PointsResult:
    """What ``simulate`` would do, for points; the same fills and money to the micro-dollar.

    The prices and sizes of ``points`` must have been made under the same scenario and settings. ``threads``
    share the markets where each has its own bankroll; the rows are the same for any number.

    Raises
    ------
    UsageError
        for what the domain in ``docs/points.md`` does not cover.
    """
    terms = terms_record(config, scenario, source if isinstance(source, ZRule) else None)
    regimes = regimes_under(points.regimes, config.execution.under(scenario))
    ready(advance if bankroll == "shared" else advance_each, z_rows)
    model_fits(points, config)
    _check(points, source)
    if bankroll == "shared":
        terms["curve"] = 1
        return _result(points, [_play(points, source, terms, regimes, each=False)], [0])
    parts = list(chunks(points))
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda p: _play(points.part(*p), source, terms, regimes, each=True), parts)
        return _result(points, list(found), [first for first, _ in parts])


def chunks(points: Points) -> Iterator[tuple[int, int]]:
    """Ranges of markets with about :data:`CHUNK` rows each."""
    first, ends = 0, points.markets["end"]
    while first < len(ends):
        start = int(points.markets["first"][first])
        last = max(int(np.searchsorted(ends, start + CHUNK, side="right")), first + 1)
        yield first, last
        first = last


def _check(points: Points, source: Source) -> None:
    if isinstance(source, ZRule):
        rule_needs(points)
    elif unknown := sorted(set(source) - set(points.keys)):
        raise UsageError(f"there are signals for {unknown[0]}, but no points of it")


def model_fits(points: Points, config: RunConfig) -> None:
    """Raise :class:`UsageError` where points have sizes and the liquidity model none, or the reverse."""
    model, sized = config.execution.liquidity, len(points.bid_size) > 0
    quoted = len(points) and (points.bid.max() >= 0 or points.ask.max() >= 0)
    if quoted and sized != (model is LiquidityModel.MEASURED):
        have = "have" if sized else "have no"
        raise UsageError(f"the points {have} sizes, so the liquidity model {model} did not make them")


def rule_needs(points: Points) -> None:
    """A rule looks at points one after the other; raise :class:`UsageError` where they became known
    otherwise."""
    if points.known_at is points.ts:
        return
    inside = np.ones(len(points), bool)
    inside[points.markets["first"][points.markets["first"] < len(points)]] = False
    if (inside[1:] & (np.diff(points.known_at) < 0)).any():
        raise UsageError("a rule needs points that became known in the order of their ts")


# ------------------------------------------------------------------ running the loop


class _Found(NamedTuple):
    """What a part of a run wrote."""

    fills: Records
    trades: Records
    decisions: Records
    curve: Records
    refused: Ints


_WRITTEN: Final = ("fills", "trades", "decisions", "curve")


def _play(points: Points, source: Source, terms: Records, regimes: Records, *, each: bool) -> _Found:
    t = tables(points, source, terms, regimes)
    count, position, resume = len(points.keys), 0, 0
    if each:
        while (place := advance_each(t, position, count, resume > 0)) < 2 * count and not t.state["fault"][0]:
            position, resume = divmod(place, 2)
            t = longer(t)
        position = min(place // 2, count - 1)
    else:
        while not advance(t, resume > 0, 0, count):
            t, resume = longer(t), 1
    raise_fault(t, points.keys[position if each else int(t.state["fault_market"][0])] if count else "")
    # copies, so that the tables of a chunk are let go with it
    written = {name: getattr(t, name)[: int(t.state[name][0])].copy() for name in _WRITTEN}
    return _Found(**written, refused=t.refused)


def raise_fault(t: Tables, key: str) -> None:
    """Raise :class:`UsageError` for what stopped a run at a market."""
    if fault := Fault(int(t.state["fault"][0])):
        raise UsageError(f"{key}: {_FAULTS[fault]}; use simulate for it")


_FAULTS: Final = {
    Fault.FEE: "a fee rule was in force that points do not cover (see docs/points.md)",
    Fault.SIZE: "an amount outgrew 8.7 million dollars or contracts, the bounds of points",
    Fault.BOOKS: "the books do not balance; this is a fault of the engine, please report it",
}

_GROWING: Final = ("heap", "orders", "trips", "held", "fills", "trades", "decisions", "curve")

_RESULTS: Final = ("fills", "trades", "decisions")


def longer(t: Tables) -> Tables:
    """The tables that are nearly full, of twice the length.

    The curve is short, and a step may add any number of midnights to it, so it always grows.
    """
    changes: dict[str, Any] = {}
    walk = 2 * len(t.bought)  # a market alone is walked in one go; see alone._room
    for name in _GROWING:
        old, used = getattr(t, name), int(t.state[name][0])
        needed = 16 + (walk if name in _RESULTS else 0)
        if name == "curve" or used + needed > len(old) // 2:
            new = np.zeros(2 * len(old), old.dtype)
            new[: len(old)] = old
            changes[name] = new
    return t._replace(**changes)


_ROWS: Final = ("ts", "known_at", "mid", "bid", "ask", "kind")
_SIZES: Final = ("bid_size", "ask_size", "no_bid_size", "no_ask_size")


def tables(points: Points, source: Source | None, terms: Records, regimes: Records) -> Tables:
    """All arrays of a run; without a source the scores are left to whoever makes them market by market."""
    count, blocks = len(points.keys), -(-len(points) // BLOCK)
    empty = {name: np.zeros(1, dtype_of(name)) for name in Tables._fields}
    given: dict[str, Any] = {
        name: np.ascontiguousarray(getattr(points, name)) for name in (*_ROWS, *_SIZES, "markets")
    }
    for side in ("bid", "ask"):
        low, high = (np.empty(blocks, np.int32) for _ in range(2))
        price_extremes(given[side], low, high)
        given |= {f"{side}_low": low, f"{side}_high": high}
    if source is None or isinstance(source, ZRule):
        z, z_low, z_high = np.empty(len(points)), np.empty(blocks), np.empty(blocks)
        given |= {"z": z, "z_low": z_low, "z_high": z_high}
    if isinstance(source, ZRule):
        z_rows(given["mid"], z, points.first, source.window)
        score_extremes(z, z_low, z_high)
    elif source is not None:
        given["signals"], given["signal_first"] = _signal_records(points, source)
    start = 1024
    lengths = {"runs": count, "at_risk": 5 * count + 1, "heap": 4 * count + start, "held": start}
    longest = int((points.markets["end"] - points.markets["first"]).max(initial=1))
    lengths |= dict.fromkeys(("orders", "trips", "curve"), start)
    lengths |= dict.fromkeys(_RESULTS, 2 * longest + len(points) // 16 + start)
    lengths["bought"] = longest
    lengths |= {"sums": 1, "latches": 3, "refused": CODES}
    given |= {name: np.zeros(length, dtype_of(name)) for name, length in lengths.items()}
    return Tables(**(empty | given | {"terms": terms, "regimes": regimes, "state": np.zeros(1, STATE)}))


def _signal_records(points: Points, source: Mapping[str, Signals]) -> tuple[Records, Any]:
    listed = [source.get(key, Signals()) for key in points.keys]
    first = np.cumsum([0, *map(len, listed)]).astype(np.int64)
    rows = np.zeros(max(int(first[-1]), 1), SIGNAL)
    for row, signal in zip(rows, (s for signals in listed for s in signals), strict=False):
        if signal.outcome_index > 1:
            raise UsageError(f"a binary market has no outcome {signal.outcome_index}")
        if signal.action not in (Action.ENTER, Action.EXIT) or signal.all_or_none:
            raise UsageError("points cover entries and exits that take at once; use simulate for others")
        row["at"], row["outcome"] = signal.ts, signal.outcome_index
        row["enters"] = signal.action is Action.ENTER
        row["p"] = np.nan if signal.p_hat is None else signal.p_hat
        for name, value in (
            ("limit", signal.limit_price),
            ("stake", signal.stake),
            ("stop", signal.stop_price),
            ("target", signal.target_price),
            ("trailing", signal.trailing),
            ("exit_at", signal.exit_at),
        ):
            row[name] = -1 if value is None else value
    return rows, first


def _result(points: Points, found: list[_Found], starts: list[int]) -> PointsResult:
    for part, start in zip(found, starts, strict=True):
        for rows in (part.fills, part.trades, part.decisions):
            rows["market"] += start
    joined = {
        name: np.concatenate([np.zeros(0, dtype_of(name)), *(getattr(part, name) for part in found)])
        for name in _WRITTEN
    }
    counts = sum((part.refused for part in found), np.zeros(CODES, np.int64))
    refusals = {Refusal(code).code: int(counts[code]) for code in np.flatnonzero(counts).tolist()}
    return PointsResult(points.keys, **joined, refusals=refusals)


# ------------------------------------------------------------------ the terms


def regimes_under(regimes: Records, terms: Terms) -> Records:
    """The regimes with the fees of the run's model."""
    if terms.config.fees == "venue":
        return regimes if len(regimes) else np.zeros(1, REGIME)
    changed = regimes.copy()
    for name, value in {
        "formula": Formula.NOTIONAL,
        "rate": _FLAT[terms.config.fees],
        "step": 1,
        "rounding": Rounding.CEIL,
        "balance": 0,
        "rebate": 0,
        "fee_ends": FOREVER,
    }.items():
        changed[name] = value
    return changed


_FLAT: Final = {"flat_2pct": 20_000, "flat_1pct": 10_000, "zero": 0}

_NOT_COVERED: Final = (
    "max_volatility", "max_correlation", "max_price_jump", "max_slippage_bps", "participation",
    "volume_share",
)  # fmt: skip
_SIZED: Final = {
    SizingMode.FIXED: Sized.FIXED,
    SizingMode.FRACTION: Sized.FRACTION,
    SizingMode.KELLY: Sized.KELLY,
}
_CAPS: Final = ("position_cap", "market_cap", "group_cap", "strategy_cap", "venue_cap", "gross_cap")
_SHARES: Final = (*_CAPS, "drawdown", "daily_loss")
_PLAIN: Final = ("losing_streak", "max_positions", "max_data_age", "min_time_to_close", "cooldown")


def terms_record(config: RunConfig, scenario: Scenario, rule: ZRule | None) -> Records:
    """The settings of a run as the loop reads them. Raises :class:`UsageError` for what is not covered."""
    _covered(config)
    under, sizing, risk = config.execution.under(scenario), config.sizing, config.risk
    dollars = int(config.execution.depth_usd * under.depth)
    _small(bankroll=config.bankroll, stake=config.stake, depth_usd=dollars)
    record = np.zeros(1, TERMS)
    values: dict[str, Any] = {
        "latency": under.latency,
        "max_age": config.execution.max_quote_age,
        "max_wait": config.execution.max_wait,
        "dollars": dollars,
        "worse": under.quotes is QuoteRule.WORSE_OF_NEIGHBOURS,
        "lot": config.execution.lot,
        "mark_mid": config.execution.mark is Mark.MID,
        "bankroll": config.bankroll,
        "stake": config.stake,
        "max_stake": _millionths("max_stake_fraction", config.max_stake_fraction),
        "sized": _SIZED[sizing.mode],
        "fraction": _millionths("fraction", sizing.fraction),
        "least": _millionths("least", sizing.least),
        "kelly": float(sizing.kelly_share),
        "refuse_crossed": risk.refuse_crossed,
        "revalue_every": risk.revalue_every,
        "looks": risk.needs_quotes or sizing.needs_belief,
        "watches": risk.watches_equity,
        "has_caps": bool(risk.caps_set),
        "window": 0,
        "entry": 0.0,
        "exit": -np.inf,
    }
    for name in (*_SHARES, *_PLAIN):
        limit = getattr(risk, name)
        values[name] = -1 if limit is None else _millionths(name, limit) if name in _SHARES else limit
    values |= dict.fromkeys(("stop", "target", "trailing", "hold"), -1)
    if rule is not None:
        values |= {"ruled": True, "window": rule.window, "entry": rule.entry, **rule.shares()}
        values["exit"] = -np.inf if rule.exit is None else rule.exit
    for name, value in values.items():
        record[name] = value
    return record


def _covered(config: RunConfig) -> None:
    risk: RiskLimits = config.risk
    named = [name for name in _NOT_COVERED if getattr(risk, name) is not None]
    if risk.day_zone != "UTC":
        named.append(f"day_zone {risk.day_zone}")
    if config.sizing.mode not in _SIZED:
        named.append(f"sizing {config.sizing.mode}")
    if config.sizing.edge_spread is not None:
        named.append("edge_spread")
    if config.execution.liquidity is LiquidityModel.PRINTS:
        named.append(f"liquidity {config.execution.liquidity}")
    if config.execution.latency_sigma:
        named.append("latency_sigma")
    if named:
        raise UsageError(f"points do not cover {', '.join(named)} (see docs/points.md); use simulate")


def _small(**amounts: int) -> None:
    for name, amount in amounts.items():
        if amount >= LARGEST:
            raise UsageError(f"{name} is {amount} micro-dollars; points count below {LARGEST}, use simulate")


def _millionths(name: str, share: Decimal) -> int:
    if share != round(share, 6):
        raise UsageError(f"{name} is {share}; points take shares of at most six decimals, use simulate")
    return int(share * MICRO)
