"""Checks that look at a market alone: is what we know of it fresh and sane, and may it be entered."""

from pm_pipeline.engine.risk.decisions import Denied, MarketSnapshot
from pm_pipeline.engine.risk.history import jump, volatility
from pm_pipeline.engine.risk.limits import RiskLimits
from pm_pipeline.engine.risk.rules import Code
from pm_pipeline.markets.clock import SECOND, Nanos
from pm_pipeline.markets.units import MICRO, Micro, from_micro


def data_freshness(limits: RiskLimits, market: MarketSnapshot, now: Nanos) -> Denied | None:
    """Whether the prices are too old, crossed, or have jumped; a jump that cannot be measured is none."""
    if limits.max_data_age is not None:
        age = None if market.quoted_at is None else now - market.quoted_at
        if age is None or age > limits.max_data_age:
            said = "no price is known" if age is None else f"the last price is {age / SECOND:.0f} s old"
            return Denied(Code.STALE_DATA, _seconds(age), _seconds(limits.max_data_age), said)
    if limits.refuse_crossed and market.bid is not None and market.offers:
        offer = market.offers[0].price
        if market.bid >= offer:
            said = f"bid {from_micro(market.bid):f}, offer {from_micro(offer):f}"
            return Denied(Code.CROSSED_BOOK, market.bid, offer, said)
    if limits.max_price_jump is not None and market.closes is not None and market.price is not None:
        moved = jump(market.closes.prices, market.price, limits.volatility_window, limits.returns)
        if moved is not None and moved > limits.max_price_jump:
            said = f"{moved:.1f} deviations since the last daily close"
            return Denied(Code.PRICE_JUMP, _millionths(moved), _millionths(limits.max_price_jump), said)
    return None


def market_status(limits: RiskLimits, market: MarketSnapshot, now: Nanos) -> Denied | None:
    """Whether the market may be entered: it trades, its close is far enough, its price calm enough.

    A distance or a volatility that is limited but not known does not meet its limit.
    """
    if not market.trading:
        return Denied(Code.NOT_TRADING, None, None, "the market does not trade")
    least = limits.min_time_to_close
    if least is not None:
        left = None if market.scheduled_close is None else market.scheduled_close - now
        if left is None or left < least:
            said = (
                "no close is scheduled" if left is None else f"{left / SECOND:.0f} s to the scheduled close"
            )
            return Denied(Code.TOO_CLOSE_TO_CLOSE, _seconds(left), _seconds(least), said)
    if limits.max_volatility is None:
        return None
    prices, needed = (() if market.closes is None else market.closes.prices), limits.volatility_window + 1
    if market.closes is None or len(prices) < needed:
        said = f"{len(prices)} daily closes are known, {needed} are needed"
        return Denied(Code.SHORT_HISTORY, len(prices) * MICRO, needed * MICRO, said)
    found = volatility(market.closes.prices, limits.volatility_window, limits.returns)
    if found is None or found <= limits.max_volatility:
        return None
    said = f"{found:.6f} a day, the limit is {limits.max_volatility:g}"
    return Denied(Code.VOLATILITY, _millionths(found), _millionths(limits.max_volatility), said)


def _seconds(nanos: Nanos | None) -> Micro | None:
    return None if nanos is None else nanos * MICRO // SECOND


def _millionths(number: float) -> Micro:
    return int(number * MICRO)
