"""Why something that was wanted was not done: one code each, with its meaning."""

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """The codes of ``backtest.rejections``. ``meaning`` says in a sentence what happened."""

    meaning: str

    def __new__(cls, code: str, meaning: str) -> Self:
        """Make the member from its code and its meaning."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    NO_QUOTE = "no_quote", "nobody quoted that side, and no later quote came in time"
    STALE_QUOTE = "stale_quote", "the last quote was older than allowed, and no later one came in time"
    NO_PRINT = "no_print", "nobody traded on that side in time, where nothing but trades may be traded on"
    BOOK_GAP = "book_gap", "the recorded book has a gap here and was not rebuilt in time"
    PRICE_BEYOND_LIMIT = "price_beyond_limit", "the best price was worse than the order accepted"
    BELOW_MIN_SIZE = "below_min_size", "the order was smaller than the venue's minimum"
    NO_DEPTH = "no_depth", "earlier fills of ours had taken all that was displayed"
    INSUFFICIENT_CASH = "insufficient_cash", "the bankroll could not pay for it"
    POSITION_OPEN = "position_open", "a position or an entry of this outcome was open already"
    NO_POSITION = "no_position", "there was nothing to sell"
    CANCELLED = "cancelled", "the entry was still waiting when the strategy asked to leave"
    NOT_OPEN = "not_open", "the market had not opened"
    MARKET_CLOSED = "market_closed", "trading had ended"
    AFTER_RESOLUTION = "after_resolution", "the market had been paid out"
    NO_SCHEDULED_CLOSE = "no_scheduled_close", "the market names no scheduled close to count back from"
    NO_DATA = "no_data", "the market's prices could not be read"
    NO_PRICE = "no_price", "no price was known that was fresh enough to decide on"
    NO_CANDIDATE = "no_candidate", "no outcome met the strategy's condition"
    TOO_CLOSE_TO_CLOSE = "too_close_to_close", "the scheduled close was too near for an entry"
    NO_RULE = "no_rule", "no dated rule of the venue covers that moment, so the fee is not known"
    RISK_DENIED = "risk_denied", "the risk manager refused it; see docs/risk.md"
    UNDEFINED_PROBABILITY = "undefined_probability", "the strategy's probability was not a number"
    ORDER_CANCELLED = "order_cancelled", "the strategy took the order back"
    NO_SETS = "no_sets", "the venue does not trade full sets against dollars"
    NO_BOOK = "no_book", "no book was recorded for an order to rest in"
    OFF_TICK = "off_tick", "the venue's grid has no such price at that moment"
    OFF_LOT = "off_lot", "the size was not a whole number of lots"
    OUT_OF_RANGE = "out_of_range", "a price lies between 0 and 1, both excluded"
    WOULD_TAKE = "would_take", "a post-only order would have traded at once"
    NOT_ALL = "not_all", "the book could not fill the whole of a fill-or-kill order"
    EXPIRED = "expired", "the order's time had come"
    ORDER_GONE = "order_gone", "the order was filled or dead already, or had not arrived"
    SELF_CROSS = "self_cross", "the order would have met one of our own"
    REST_DROPPED = "rest_dropped", "an immediate order got a part; the rest was dropped"
