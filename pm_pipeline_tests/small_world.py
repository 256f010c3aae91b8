"""A world of six markets of two to fifteen days: quick to read, and with every kind of ending."""

from dataclasses import replace
from functools import lru_cache
from typing import Final

from pm_pipeline.markets.clock import MINUTE
from pm_pipeline.sources.sandbox.generator import generate_world
from pm_pipeline.sources.sandbox.paths import Share, Tie
from pm_pipeline.sources.sandbox.plans import (
    POLITICS_FEES,
    SPORTS_FEES,
    Ending,
    figure_event,
    question_event,
)
from pm_pipeline.sources.sandbox.world import World

STEP: Final = 10 * MINUTE
"""Between two quotes; that of the generator is a minute, and costs ten times as much to read."""

PLANS: Final = (
    question_event(
        "small-won-2026-06-25",
        "Will the small one be won?",
        opened="2026-06-24T00:00:00Z",
        closed="2026-06-25T12:00:00Z",
        category="Sports",
        fees=SPORTS_FEES,
        chance=0.4,
    ),
    question_event(
        "small-tie-2026-06-21",
        "Left vs. Right",
        opened="2026-06-16T00:00:00Z",
        closed="2026-06-21T06:00:00Z",
        category="Sports",
        fees=SPORTS_FEES,
        payoff=Tie(0.0, 0.25),
        outcomes=("Left", "Right"),
    ),
    question_event(
        "small-open-2026-07-03",
        "Will the small one stay open?",
        opened="2026-06-28T12:00:00Z",
        closed="2026-07-03T16:00:00Z",
        category="Politics",
        fees=POLITICS_FEES,
    ),
    figure_event(
        "KXSMALL-26JUN20",
        "T70",
        "Will the small figure be above 70?",
        series="KXSMALL",
        category="Economics",
        opened="2026-06-05T14:00:00Z",
        closed="2026-06-20T14:00:00Z",
    ),
    figure_event(
        "KXSMALLVOID-26JUN20",
        "T70",
        "Will the void figure be above 70?",
        series="KXSMALLVOID",
        category="Entertainment",
        opened="2026-06-19T00:00:00Z",
        closed="2026-06-20T14:00:00Z",
        ending=Ending.VOID,
    ),
    figure_event(
        "KXSMALLSHARE-26JUN22",
        "S",
        "Which share will the small measure get?",
        series="KXSMALLSHARE",
        category="Elections",
        opened="2026-06-21T00:00:00Z",
        closed="2026-06-22T14:00:00Z",
        payoff=Share(0.0, 1.0),
    ),
)


@lru_cache(maxsize=1)
def load_world() -> World:
    """What ``PM_SANDBOX_WORLD=pm_pipeline_tests.small_world:load_world`` serves."""
    return generate_world(plans=[replace(plan, step=STEP) for plan in PLANS])
