"""What each wallet of a world did and holds, as follows from the trades of the world.

Nobody sells what he does not have: who lacks contracts first makes full sets for a dollar each (a split), so
that as many contracts of one outcome exist as of the other. After the end, every other wallet redeems: in a
neg-risk group outcome by outcome, else all of a market at once. Gains are counted without fees.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pm_pipeline.markets.clock import HOUR, Nanos
from pm_pipeline.markets.units import MICRO, Micro
from pm_pipeline.sources.sandbox.data_trades import MAKERS, Row, transaction
from pm_pipeline.sources.sandbox.world import World, WorldMarket

REDEEMED_AFTER: Final[Nanos] = HOUR
"""From the resolution until those who redeem have done so."""


class Act(NamedTuple):
    """One thing that a wallet did in a market; ``cash`` includes the fee.

    ``outcome`` is ``None`` where it is about all outcomes: full sets, and what a plain market pays.
    """

    ts: Nanos
    kind: str
    market: WorldMarket
    outcome: int | None
    buys: bool
    price: Micro
    size: Micro
    cash: Micro
    tx: str


@dataclass(slots=True)
class Holding:
    """One outcome in one hand: contracts, what they cost, fees, contracts ever acquired, dollars gained."""

    size: Micro = 0
    cost: Micro = 0
    fees: Micro = 0
    bought: Micro = 0
    gained: Micro = 0

    def add(self, size: Micro, cost: Micro) -> None:
        """Acquire contracts."""
        self.size += size
        self.cost += cost
        self.bought += size

    def take(self, size: Micro, proceeds: Micro) -> None:
        """Part with contracts, at the average cost."""
        freed = self.cost * size // self.size
        self.size -= size
        self.cost -= freed
        self.gained += proceeds - freed


@dataclass(slots=True)
class Hand:
    """One wallet in one market."""

    held: tuple[Holding, Holding] = field(default_factory=lambda: (Holding(), Holding()))
    acts: list[Act] = field(default_factory=list)


def hands(market: WorldMarket, now: Nanos, wallet: str | None = None) -> Mapping[str, Hand]:
    """Every wallet that ever traded in a market (or this one), sorted by address."""
    found: dict[str, Hand] = {}
    for row in legs(market, wallet):
        hand = found.setdefault(row.wallet, Hand())
        _trade(hand, row)
    _redeem(market, now, found)
    return dict(sorted(found.items()))


def legs(market: WorldMarket, wallet: str | None = None) -> Iterator[Row]:
    """Takers and makers of each trade, in order of time; all, or those of one wallet."""
    trades = market.trades()
    roles = (0, 1, 2) if wallet is None or wallet in MAKERS else (0,)
    for at in range(len(trades.ts)):
        for maker in roles:
            row = Row(market, trades, at, maker)
            if row.size and (wallet is None or row.wallet == wallet):
                yield row


def price_at(market: WorldMarket, moment: Nanos) -> Micro:
    """Dollars per contract of outcome 0: its payout once that is known, else the mid."""
    ended = market.resolution
    if ended.payouts is not None and ended.resolved_at is not None and ended.resolved_at <= moment:
        return ended.payouts[0]
    quotes = market.quotes()
    row = quotes.at(moment)
    return MICRO // 2 if row is None else int(quotes.mid[row])


class Standing(NamedTuple):
    """A place on a leaderboard: dollars gained or lost, and contracts traded."""

    wallet: str
    pnl: Micro
    volume: Micro


def standings(world: World, since: Nanos) -> list[Standing]:
    """What every wallet gained and traded from ``since`` on, holdings at their price then and now."""
    pnl: dict[str, Micro] = {}
    volume: dict[str, Micro] = {}
    for market in world.polymarket.values():
        before, now = price_at(market, since), price_at(market, world.now)
        for row in legs(market):
            ts = int(row.trades.ts[row.at])
            outcome, sign = int(row.trades.outcome[row.at]), 1 if row.buys else -1
            paid = row.trades.price_of_named(row.at) if ts >= since else _of(outcome, before)
            worth = _of(outcome, now) - paid
            pnl[row.wallet] = pnl.get(row.wallet, 0) + sign * row.size * worth
            if ts >= since:
                volume[row.wallet] = volume.get(row.wallet, 0) + row.size
    return [Standing(wallet, gained // MICRO, volume.get(wallet, 0)) for wallet, gained in pnl.items()]


def order_of(sort_by: str) -> Callable[[Standing], tuple[int, str]]:
    """How a leaderboard is sorted: by profit or by volume, largest first."""
    return lambda each: (-(each.pnl if sort_by == "PNL" else each.volume), each.wallet)


def _of(outcome: int, price: Micro) -> Micro:
    return MICRO - price if outcome else price


def _trade(hand: Hand, row: Row) -> None:
    market, ts = row.market, int(row.trades.ts[row.at])
    outcome, price = int(row.trades.outcome[row.at]), row.trades.price_of_named(row.at)
    tx, cash = transaction(market, row.at), row.size * price // MICRO
    holding, paid = hand.held[outcome], cash + (row.fee if row.buys else -row.fee)
    if row.buys:
        holding.add(row.size, cash)
        holding.fees += row.fee
    else:
        lacking = row.size - holding.size
        if lacking > 0:
            hand.held[0].add(lacking, lacking // 2)
            hand.held[1].add(lacking, lacking - lacking // 2)
            hand.acts.append(Act(ts, "SPLIT", market, None, False, 0, lacking, lacking, tx))
        holding.take(row.size, cash)
    hand.acts.append(Act(ts, "TRADE", market, outcome, row.buys, price, row.size, paid, tx))


def _redeem(market: WorldMarket, now: Nanos, found: Mapping[str, Hand]) -> None:
    ended = market.resolution
    if ended.payouts is None or ended.resolved_at is None or ended.resolved_at + REDEEMED_AFTER > now:
        return
    at, whole = ended.resolved_at + REDEEMED_AFTER, not market.market.exclusive_group
    for wallet, hand in found.items():
        if int(wallet[-1], 16) % 2:
            continue
        tx = transaction(market, -1 - int(wallet[2:10], 16))
        redeemed = []
        for outcome, (holding, payout) in enumerate(zip(hand.held, ended.payouts, strict=True)):
            if holding.size:
                size, cash = holding.size, holding.size * payout // MICRO
                holding.take(size, cash)
                redeemed.append(Act(at, "REDEEM", market, outcome, False, 0, size, cash, tx))
        if redeemed and whole:
            cash = sum(act.cash for act in redeemed)
            redeemed = [Act(at, "REDEEM", market, None, False, 0, cash, cash, tx)]
        hand.acts += redeemed
