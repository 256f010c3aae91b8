"""Markets of quotes as arrays: all points of all markets in one table, sorted by market and time, and in
one file.

A point is a row of a :class:`~pm_pipeline.engine.venue.tape.Touch` of outcome 0: what could be bought and
sold.
What is known of a market besides (when it closes and pays, and the venue's dated rules) is a small record
beside it.
"""

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pm_pipeline.engine.kernel.orders import Records
from pm_pipeline.engine.money.settlement import PAYOUT_STEP, Settlement
from pm_pipeline.engine.points.records import MARKET, REGIME, Formula, Prices, Rounding
from pm_pipeline.engine.venue.tape import Kind, Touch
from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import FOREVER, Nanos, to_nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.resolution import Resolution
from pm_pipeline.markets.rules import FeeRule, NoRuleError, RuleBook
from pm_pipeline.markets.rules import Formula as Charge
from pm_pipeline.markets.units import to_micro
from pm_pipeline.warehouse.records import Ints

_ROWS: Final = 131_072
"""Rows of a row group: small, so that reading needs little memory at once."""
_VERSION: Final = "pm_points_1"
_META: Final = "pm_points"


class Quoted(NamedTuple):
    """A market and the touch of its outcome 0, as ``engine.venue.tape`` makes it under a scenario.

    ``other`` is the touch of outcome 1. Its prices must be the same seen from the other side, its sizes may
    be others: a size is bounded by what the declared dollars buy at its own price. Without sizes it is not
    needed.
    """

    market: Market
    resolution: Resolution | None
    touch: Touch
    other: Touch | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Points of many markets, in the order of their keys; within a market in the order of ``ts``.

    ``kind`` is a member of :class:`~pm_pipeline.engine.venue.tape.Kind`, prices are -1 where there is none.
    The sizes are contracts at the quotes of outcome 0 and of outcome 1 (``no``), -1 where the declared depth
    holds; all four are empty where no row has one. ``markets`` are records of ``records.MARKET``, ``regimes``
    of ``records.REGIME``. Build it with :meth:`of_touches`.
    """

    keys: tuple[str, ...]
    ts: Ints
    known_at: Ints
    mid: Prices
    bid: Prices
    ask: Prices
    kind: npt.NDArray[np.uint8]
    bid_size: Ints
    ask_size: Ints
    no_bid_size: Ints
    no_ask_size: Ints
    markets: Records
    regimes: Records

    def __len__(self) -> int:
        return len(self.ts)

    @property
    def first(self) -> Ints:
        """The first row of each market, and at last the number of rows."""
        return np.append(self.markets["first"], len(self.ts)).astype(np.int64)

    @classmethod
    def of_touches(
        cls,
        given: Iterable[Quoted | tuple[Market, Resolution | None, Touch]],
        rules: RuleBook | None = None,
    ) -> Self:
        """Markets with their touches; a plain tuple is one without ``other``.

        Raises
        ------
        UsageError
            for a market twice, one that is not binary, rows of an order book, rows out of order, rows that
            were known before they were true, and outcomes that are not two sides of the same quotes.
        """
        regimes = _Regimes(rules or RuleBook.default())
        ordered = sorted((Quoted(*item) for item in given), key=lambda item: str(item.market.key))
        for before, after in pairwise(ordered):
            if before.market.key == after.market.key:
                raise UsageError(f"{after.market.key} was given twice; points hold each market once")
        markets = np.zeros(len(ordered), MARKET)
        groups: dict[str, int] = {}
        venues: dict[str, int] = {}
        row = 0
        for record, (market, resolution, touch, other) in zip(markets, ordered, strict=True):
            _check(market, touch, other)
            record["first"], record["end"] = row, row + len(touch)
            row += len(touch)
            group = market.group_key or f"market {market.key}"
            record["group"] = groups.setdefault(group, len(groups))
            record["venue"] = venues.setdefault(str(market.key.venue), len(venues))
            record["regime"], record["regime_end"] = regimes.of(market)
            _settle(record, market, resolution)
        return cls(
            tuple(str(item.market.key) for item in ordered),
            **{n: _joined([getattr(item.touch, n) for item in ordered], dtype) for n, dtype in _COLUMNS},
            **_sizes(ordered),
            markets=markets,
            regimes=regimes.table(),
        )

    def part(self, first: int, last: int) -> Self:
        """These markets alone; the arrays are views."""
        markets = self.markets[first:last].copy()
        start = int(markets["first"][0]) if len(markets) else 0
        end = int(markets["end"][-1]) if len(markets) else 0
        markets["first"] -= start
        markets["end"] -= start
        for name in ("group", "venue"):  # ids index totals, so they are kept below the number of markets
            markets[name] = np.unique(markets[name], return_inverse=True)[1]
        rows = slice(start, end)
        ts = self.ts[rows]
        return type(self)(
            self.keys[first:last],
            ts,
            ts if self.known_at is self.ts else self.known_at[rows],
            **{name: getattr(self, name)[rows] for name in ("mid", "bid", "ask", "kind", *_SIZES)},
            markets=markets,
            regimes=self.regimes,
        )

    def write(self, path: Path) -> None:
        """Store as one Parquet file; see ``docs/points.md`` for its layout."""
        columns = {
            "ts": self.ts,
            "lag": self.known_at - self.ts,
            "bid": self.bid,
            "spread": np.where((self.ask >= 0) & (self.bid >= 0), self.ask - self.bid, _ALONE - self.ask),
            "half": 2 * self.mid - self.bid - self.ask,
            "kind": self.kind.astype(np.int32),
        }
        mirrored = np.array_equal(self.no_bid_size, self.ask_size)
        mirrored = mirrored and np.array_equal(self.no_ask_size, self.bid_size)
        if len(self.bid_size):
            columns |= {name: getattr(self, name) for name in _SIZES[: 2 if mirrored else 4]}
        same = {
            name: int(c[0])
            for name, c in columns.items()
            if name not in ("ts", "bid") and len(c) and (c == c[0]).all()
        }
        stored = {name: pa.array(column) for name, column in columns.items() if name not in same}
        meta = {
            "rows": len(self),
            "same": same,
            "keys": list(self.keys),
            "markets": _text(self.markets),
            "regimes": _text(self.regimes),
        }
        table = pa.table(stored)
        with pq.ParquetWriter(
            path,
            table.schema,
            compression="lz4",
            use_dictionary=[name for name in stored if name != "ts"],
            column_encoding={"ts": "DELTA_BINARY_PACKED"},
            write_statistics=False,
            store_schema=False,  # would hold the header once more
        ) as file:
            file.write_table(table, _ROWS)
            file.add_key_value_metadata({"version": _VERSION, _META: json.dumps(meta)})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`write` stored. Raises :class:`UsageError` for another file."""
        with pq.ParquetFile(path, pre_buffer=False) as file:
            metadata = file.metadata.metadata or {}
            if metadata.get(b"version") != _VERSION.encode():
                raise UsageError(f"{path} holds no points; write it with Points.write")
            meta = json.loads(metadata[_META.encode()])
            rows, same = meta["rows"], meta["same"]
            found = {*file.schema.names, *same}
            ts, bid = np.empty(rows, np.int64), np.empty(rows, np.int32)
            known_at = ts if same.get("lag") == 0 else np.empty(rows, np.int64)
            # where offer and bid are the same everywhere, they are one array; so is a mid between them
            ask = bid if same.get("spread") == 0 else np.empty(rows, np.int32)
            mid = bid if ask is bid and same.get("half") == 0 else np.empty(rows, np.int32)
            kind = np.full(rows, same.get("kind", 0), np.uint8)
            sizes = {name: np.full(rows, same.get(name, 0), np.int64) for name in _SIZES if name in found}
            at = 0
            for group in range(file.num_row_groups):
                part = file.read_row_group(group, use_threads=False)
                here = slice(at, at + part.num_rows)
                at += part.num_rows
                column = same | {name: part.column(name).to_numpy() for name in part.column_names}
                ts[here], bid[here], spread = column["ts"], column["bid"], column["spread"]
                if ask is not bid:
                    np.add(bid[here], spread, out=ask[here])
                    if np.any(alone := np.asarray(spread) > _ALONE // 2):
                        ask[here] = np.where(alone, _ALONE - spread, ask[here])
                if mid is not bid:
                    np.add(bid[here], ask[here], out=mid[here])
                    mid[here] += column["half"]
                    mid[here] >>= 1
                if known_at is not ts:
                    np.add(ts[here], column["lag"], out=known_at[here])
                if "kind" not in same:
                    kind[here] = column["kind"]
                for name in sizes.keys() - same.keys():
                    sizes[name][here] = column[name]
        markets, regimes = (
            np.frombuffer(base64.b64decode(meta[name]), dtype).copy()
            for name, dtype in (("markets", MARKET), ("regimes", REGIME))
        )
        bids, asks = (sizes.get(name, np.zeros(0, np.int64)) for name in ("bid_size", "ask_size"))
        others = sizes.get("no_bid_size", asks), sizes.get("no_ask_size", bids)
        return cls(
            tuple(meta["keys"]), ts, known_at, mid, bid, ask, kind, bids, asks, *others, markets, regimes
        )


_ALONE: Final = 100_000_000
"""Where a side is missing, the column of spreads holds this less the offer."""


def _text(records: Records) -> str:
    return base64.b64encode(records.tobytes()).decode()


def _joined(columns: Sequence[npt.NDArray[Any]], dtype: Any) -> Any:
    return np.concatenate(columns).astype(dtype) if columns else np.zeros(0, dtype)


_COLUMNS: Final = (
    *(("ts", np.int64), ("known_at", np.int64), ("mid", np.int32)),
    *(("bid", np.int32), ("ask", np.int32), ("kind", np.uint8)),
)
_SIZES: Final = ("bid_size", "ask_size", "no_bid_size", "no_ask_size")


def _has_sizes(touch: Touch) -> bool:
    return bool((touch.bid_size >= 0).any() or (touch.ask_size >= 0).any())


def _sizes(ordered: Sequence[Quoted]) -> dict[str, Any]:
    """The sizes of both outcomes; the same two arrays the other way round where outcome 1 is the mirror."""
    if not any(_has_sizes(item.touch) for item in ordered):
        return dict.fromkeys(_SIZES, np.zeros(0, np.int64))
    others = [item.touch.mirrored() if item.other is None else item.other for item in ordered]
    bids, asks = (_joined([getattr(i.touch, name) for i in ordered], np.int64) for name in _SIZES[:2])
    no_bids, no_asks = (_joined([getattr(o, name) for o in others], np.int64) for name in _SIZES[:2])
    mirrored = np.array_equal(no_bids, asks) and np.array_equal(no_asks, bids)
    found = (bids, asks, asks, bids) if mirrored else (bids, asks, no_bids, no_asks)
    return dict(zip(_SIZES, found, strict=True))


def _check(market: Market, touch: Touch, other: Touch | None) -> None:
    if len(market.instruments) != 2:
        raise UsageError(f"{market.key} has {len(market.instruments)} outcomes; points cover binary markets")
    if not np.isin(touch.kind, (Kind.GAP, Kind.MID, Kind.BBO)).all():
        raise UsageError(f"{market.key} has a recorded book or prints; points cover quotes, use simulate")
    if other is None and _has_sizes(touch):
        raise UsageError(f"{market.key} has quotes with sizes; give the touch of its outcome 1 as well")
    if other is not None and not _same_quotes(touch.mirrored(), other):
        raise UsageError(f"the outcomes of {market.key} are not two sides of the same quotes; use simulate")
    if (np.diff(touch.ts) < 0).any():
        raise UsageError(f"the points of {market.key} are not in the order of ts; sort them")
    if (touch.known_at < touch.ts).any():
        raise UsageError(f"{market.key} has points that were known before they were true")


def _same_quotes(touch: Touch, other: Touch) -> bool:
    return all(np.array_equal(getattr(touch, name), getattr(other, name)) for name, _ in _COLUMNS)


def _settle(record: Any, market: Market, resolution: Resolution | None) -> None:
    settlement = Settlement.of(resolution)
    payouts = settlement.payouts
    record["opened_at"] = -FOREVER if market.opened_at is None else market.opened_at
    record["scheduled_close"] = -1 if market.scheduled_close is None else market.scheduled_close
    record["closed_at"], record["paid_at"] = settlement.closed_at, settlement.paid_at
    record["void"] = payouts is None
    record["payout0"], record["payout1"] = (-1, -1) if payouts is None else payouts
    record["payout_step"] = PAYOUT_STEP.get(market.key.venue, 1)


class _Regimes:
    """The dated rules of markets as rows; markets under the same rules share theirs."""

    def __init__(self, rules: RuleBook) -> None:
        self._rules = rules
        self._rows: list[Records] = []
        self._found: dict[object, tuple[int, int]] = {}
        self._places: dict[bytes, tuple[int, int]] = {}
        self._edges: dict[str, list[Nanos]] = {}
        self._own: set[str] = set()
        for row in rules.to_rows():
            venue, scope = str(row["venue"]), str(row["scope"])
            ends: list[Any] = [row["valid_from"], row["valid_to"]]
            edges = [to_nanos(end) for end in ends if end is not None]
            self._edges.setdefault(venue, []).extend(edges)
            if scope.startswith("market:"):
                self._own.add(scope.removeprefix("market:"))

    def of(self, market: Market) -> tuple[int, int]:
        """First and last row (excluded) of a market's rules."""
        series = market.series or market.key.native_id.partition("-")[0]
        own = str(market.key) if str(market.key) in self._own else None
        shared = (market.category, market.tags, market.fee_terms, market.ticks, market.min_order_size)
        name = (market.key.venue, series, market.event_id, own, *shared)
        if name not in self._found:
            rows = self._made(market)
            content = rows.tobytes()
            if content not in self._places:
                start = sum(map(len, self._rows))
                self._rows.append(rows)
                self._places[content] = start, start + len(rows)
            self._found[name] = self._places[content]
        return self._found[name]

    def table(self) -> Records:
        """All rows."""
        return np.concatenate(self._rows) if self._rows else np.zeros(0, REGIME)

    def _made(self, market: Market) -> Records:
        edges = sorted({-FOREVER, *self._edges.get(str(market.key.venue), ())})
        rows = np.zeros(len(edges), REGIME)
        for row, at in zip(rows, edges, strict=True):
            row["since"] = at
            self._fee(row, market, at)
            self._ticks(row, market, at)
            try:
                row["delay"] = self._rules.delay(market, at)
            except NoRuleError:
                row["delay"] = -1
        same = [name for name in REGIME.names or () if name != "since"]
        new = np.ones(len(rows), bool)
        new[1:] = rows[same][1:] != rows[same][:-1]
        return rows[new]

    def _fee(self, row: Any, market: Market, at: Nanos) -> None:
        try:
            rule = self._rules.fee(market, at)
        except NoRuleError:
            row["formula"], row["fee_ends"] = Formula.NO_RULE, FOREVER
            return
        charge(row, rule)

    def _ticks(self, row: Any, market: Market, at: Nanos) -> None:
        try:
            rule = self._rules.tick(market, at)
        except NoRuleError:
            row["lot"] = row["min_size"] = -1
            return
        row["lot"], row["min_size"] = rule.lot, rule.min_order_size


_FORMULAS: Final = {
    Charge.CURVE: Formula.CURVE,
    Charge.NOTIONAL: Formula.NOTIONAL,
    Charge.PER_CONTRACT: Formula.PER_CONTRACT,
}


def charge(row: Any, rule: FeeRule) -> None:
    """Write what takers pay under a rule into a regime; what is not covered is marked, and stops a run."""
    formula, rate = rule.taker_formula, to_micro(rule.taker_rate * rule.taker_multiplier)
    fill = rule.charged_per == "fill"
    row["rate"], row["step"], row["fee_ends"] = rate, rule.step, rule.valid_to
    row["rounding"] = Rounding[rule.rounding.upper()]
    row["balance"] = rule.balance_step if fill else 0
    row["rebate"] = rule.rebate_step if fill else 0
    row["formula"] = _FORMULAS.get(formula, Formula.UNCOVERED)
    curved = formula in (Charge.CURVE, Charge.PRICE_CURVE)
    finer = 0 < row["rebate"] < row["balance"]
    if rate == 0:
        row["formula"] = Formula.CURVE
    elif (curved and rule.exponent != 1) or rate < 0:
        row["formula"] = Formula.UNCOVERED
    if finer or (rate and rule.collected == "proceeds"):
        row["formula"] = Formula.UNCOVERED
