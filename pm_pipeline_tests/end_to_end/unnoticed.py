"""What no reader can notice, on whatever path: the one list of exceptions that the tests of faults allow.

An answer that stays well-formed and plausible passes for the truth. Each entry says why, and who finds out
afterwards, if anybody does.
"""

from typing import Final

from pm_pipeline.sources.sandbox import Fault

UNNOTICED: Final = {
    (Fault.STALE, "/events/keyset"): "Gamma's count of events disagrees: the check `listing_is_whole`",
    (Fault.STALE, "/markets/keyset"): "nothing says how many markets there are",
    (Fault.STALE, "/trade-api/v2/markets"): "nothing says how many markets there are",
    (Fault.STALE, "*/candlesticks"): "a candle comes only when a quote moves: a market may end in silence",
    (Fault.STALE, "*/trades"): "nothing says how many there were; Kalshi's volume does: partial",
    (Fault.STALE, "/v2/positions"): "nothing says how many positions there are; the activity disagrees",
    (Fault.STALE, "/v2/holders"): "an outcome may be held by nobody",
    (Fault.STALE, "/v2/leaderboard"): "a list may be short",
}
"""Faults by the path that they befall, and why they pass for the truth."""
