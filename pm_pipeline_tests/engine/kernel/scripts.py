"""Plays the scripts of docs/fills.md: a line of steps in, fills and reports out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pm_pipeline.engine.kernel import REASONS, Code, Lane, NewOrder, Session, Stream, TimeInForce, VenueRules
from pm_pipeline.markets import MICRO, Side, TickRange
from pm_pipeline.markets.clock import FOREVER, SECOND
from pm_pipeline.warehouse.arrays import ASK, BID, BUY, GAP, LEVEL, RESET, SELL, BookLog, TradeArrays

CENT = 10_000
CENTS = (TickRange(CENT, 99 * CENT, CENT),)
START = "snapshot 45x100 40x200 / 48x50 50x150"


class Script:
    """The recorded events and our commands of one script, steps ``step`` nanoseconds apart."""

    def __init__(self, text: str, step: int = SECOND) -> None:
        self.log: list[tuple[int, int, int, int, int, int]] = []
        self.trades: list[tuple[int, int, int, int]] = []
        self.commands: list[tuple[int, list[str]]] = []
        self.eras: list[tuple[int, tuple[TickRange, ...]]] = [(0, CENTS)]
        self.closes_at = FOREVER
        self.seq, self.now, self.step = 0, 10 * SECOND, step
        self._snapshot(START.split()[1:])
        for part in text.split(";"):
            self.now += step
            self._read(part.split())
        self.end = self.now + step

    def _read(self, words: list[str]) -> None:
        match words:
            case ["bid" | "ask" as side, price, size]:
                self.seq += 1
                self._row(LEVEL, BID if side == "bid" else ASK, price, size)
            case ["trade", side, price, size]:
                self.trades.append((self.now, BUY if side == "buy" else SELL, _price(price), _size(size)))
            case ["gap"]:
                self.seq += 1
                self._row(GAP)
            case ["snapshot", *levels]:
                self._snapshot(levels or START.split()[1:])
            case ["ticks", cents]:
                step = int(cents) * CENT
                self.eras.append((self.now, (TickRange(step, MICRO - step, step),)))
            case ["close"]:
                self.closes_at = self.now
            case ["wait", seconds]:
                self.now += int(seconds) * SECOND - self.step
            case _:
                self.commands.append((self.now, words))

    def _snapshot(self, levels: list[str]) -> None:
        self.seq += 1
        self._row(RESET)
        side = BID
        for word in levels:
            if word == "/":
                side = ASK
            else:
                self._row(LEVEL, side, *word.split("x"))

    def _row(self, kind: int, side: int = -1, price: str = "", size: str = "") -> None:
        numbers = (_price(price), _size(size)) if price else (-1, -1)
        self.log.append((self.now, self.seq, kind, side, *numbers))

    def stream(self) -> Stream:
        return Stream.of(book_log(self.log), self.eras, trades=trade_arrays(self.trades))

    def play(self, lanes: Sequence[Lane] = (Lane(),)) -> Session:
        rules = VenueRules(min_size=5 * MICRO, lot=MICRO, closes_at=self.closes_at)
        session = Session(self.stream(), rules, lanes)
        for at, words in self.commands:
            self.obey(session, at, words)
        session.advance(self.end)
        return session

    @staticmethod
    def obey(session: Session, at: int, words: list[str]) -> None:
        """Give one command of a script."""
        if words[0] == "cancel":
            session.cancel(int(words[1]) - 1, at)
        elif words[0] == "amend":
            told = dict(zip(words[2::2], words[3::2], strict=True))
            price = _price(told["at"]) if "at" in told else None
            size = _size(told["size"]) if "size" in told else None
            session.amend(int(words[1]) - 1, at, price=price, size=size)
        else:
            session.submit(order(words, at), at)


def order(words: list[str], at: int) -> NewOrder:
    side, *rest = words
    outcome = int(rest[0] == "no")
    size, *rest = rest[outcome:]
    stated: dict[str, Any] = {}
    while rest:
        match rest:
            case ["at", price, *rest]:
                stated["price"] = _price(price)
            case ["gtd", seconds, *rest]:
                stated["tif"] = TimeInForce.GTD
                stated["expires_at"] = at + int(seconds) * SECOND
            case ["post", *rest]:
                stated["tif"], stated["post_only"] = TimeInForce.GTC, True
            case ["delay", seconds, *rest]:
                stated["delay"] = int(seconds) * SECOND
            case [mode, *rest]:
                stated["tif"] = TimeInForce[mode.upper()]
    return NewOrder(side=Side(side), size=_size(size), outcome=outcome, **stated)


def fills(session: Session, lane: int = 0) -> str:
    rows = session.fills[session.fills["lane"] == lane]
    shown = (f"{f['order'] + 1}:{f['price'] / CENT:g}x{f['size'] / MICRO:g}" for f in rows)
    return " ".join(shown)


def reports(session: Session, lane: int = 0) -> str:
    rows = session.reports[session.reports["lane"] == lane]
    return " ".join(f"{r['order'] + 1}:{REASONS[Code(r['code'])].value}" for r in rows)


def book_log(rows: Sequence[tuple[int, int, int, int, int, int]]) -> BookLog:
    """Rows of ts, seq, kind, side, price, size."""
    ts, seq, kind, side, price, size = np.array(rows, np.int64).reshape(-1, 6).T.copy()
    codes = (kind.astype(np.int8), side.astype(np.int8))
    return BookLog(ts, ts.copy(), seq, *codes, price, size)


def trade_arrays(
    rows: Sequence[tuple[int, int, int, int]], outcome: int = 0, block: bool = False
) -> TradeArrays:
    """Rows of ts, side, price, size."""
    ts, side, price, size = np.array(rows, np.int64).reshape(-1, 4).T.copy()
    return TradeArrays(
        ts,
        ts.copy(),
        outcome_index=np.full(len(ts), outcome, np.int64),
        price=price,
        size=size,
        side=side.astype(np.int8),
        is_block=np.full(len(ts), block),
        wallet=np.full(len(ts), None, np.object_),
    )


def _price(cents: str) -> int:
    return round(float(cents) * CENT)


def _size(contracts: str) -> int:
    return round(float(contracts) * MICRO)
