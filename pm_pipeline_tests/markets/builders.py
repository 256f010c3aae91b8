"""Markets for tests: only what the test is about is stated."""

from typing import Any

from pm_pipeline.markets import Instrument, Market, MarketKey, ScheduleEvidence


def a_market(key: str = "polymarket:1", **stated: Any) -> Market:
    parsed = MarketKey.parse(key)
    return Market(
        **{
            "key": parsed,
            "question": "Will it?",
            "instruments": (Instrument(parsed, 0, "Yes"), Instrument(parsed, 1, "No")),
            "opened_at": None,
            "scheduled_close": None,
            "schedule_evidence": ScheduleEvidence.LISTED,
            "ticks": (),
            "min_order_size": 1_000_000,
            **stated,
        }
    )
