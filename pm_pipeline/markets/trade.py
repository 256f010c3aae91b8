"""A trade as the public saw it."""

from dataclasses import dataclass
from enum import StrEnum

from pm_pipeline.markets.clock import Nanos
from pm_pipeline.markets.keys import MarketKey
from pm_pipeline.markets.units import Micro


class Side(StrEnum):
    """Which way an order goes."""

    BUY = "buy"
    SELL = "sell"


class SideEvidence(StrEnum):
    """What the aggressor side rests on: the chain, the venue's feed, or a guess."""

    ONCHAIN = "onchain"
    FEED = "feed"
    INFERRED = "inferred"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One taker execution: ``side`` is what the taker did with this outcome.

    ``ordinal`` tells apart rows that are alike in all else, which are legitimate: the venue prints no
    number of its own for them.
    """

    market_key: MarketKey
    outcome_index: int
    ts: Nanos
    known_at: Nanos
    price: Micro
    size: Micro
    side: Side
    side_evidence: SideEvidence
    trade_id: str
    ordinal: int = 0
    wallet: str | None = None
    is_block: bool = False
