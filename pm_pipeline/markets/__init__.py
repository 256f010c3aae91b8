"""The domain: what a market, a book, a trade and a resolution are, in exact units, under dated rules."""

from pm_pipeline.markets.book import Book, Level
from pm_pipeline.markets.event import Event
from pm_pipeline.markets.keys import MarketKey, Venue
from pm_pipeline.markets.market import (
    FeeTerms,
    GroupKind,
    Instrument,
    Market,
    MarketGroup,
    ScheduleEvidence,
    TickRange,
)
from pm_pipeline.markets.resolution import Resolution, ResolutionStatus
from pm_pipeline.markets.rules import (
    FeeRule,
    Formula,
    NoRuleError,
    RuleBook,
    RuleFileError,
    RuleRow,
    SettlementSource,
    TickRule,
    VenueDelay,
)
from pm_pipeline.markets.trade import Side, SideEvidence, Trade
from pm_pipeline.markets.units import MICRO, Micro, from_micro, to_micro

__all__ = [
    "MICRO",
    "Book",
    "Event",
    "FeeRule",
    "FeeTerms",
    "Formula",
    "GroupKind",
    "Instrument",
    "Level",
    "Market",
    "MarketGroup",
    "MarketKey",
    "Micro",
    "NoRuleError",
    "Resolution",
    "ResolutionStatus",
    "RuleBook",
    "RuleFileError",
    "RuleRow",
    "ScheduleEvidence",
    "SettlementSource",
    "Side",
    "SideEvidence",
    "TickRange",
    "TickRule",
    "Trade",
    "Venue",
    "VenueDelay",
    "from_micro",
    "to_micro",
]
