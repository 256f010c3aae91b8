"""What we read of Data API v2 about wallets, field by field: positions, activity, holders, leaderboard."""

from decimal import Decimal
from enum import StrEnum
from typing import ClassVar

import msgspec

from pm_pipeline.sources.polymarket import unread


class ActivityType(StrEnum):
    """What a wallet can do. The feed leaves out transfers and tips; they are asked for by name."""

    TRADE = "TRADE"
    SPLIT = "SPLIT"
    MERGE = "MERGE"
    REDEEM = "REDEEM"
    REWARD = "REWARD"
    CONVERSION = "CONVERSION"
    MIGRATION = "MIGRATION"
    DEPOSIT = "DEPOSIT"
    WITHDRAWAL = "WITHDRAWAL"
    YIELD = "YIELD"
    MAKER_REBATE = "MAKER_REBATE"
    TAKER_REBATE = "TAKER_REBATE"
    REFERRAL_REWARD = "REFERRAL_REWARD"
    TIP = "TIP"

    @property
    def kind(self) -> str:
        """The word in ``market_data.wallet_activity``."""
        return self.value.lower()


class PositionStatus(StrEnum):
    """Where a position stands, in the order in which one moves on: held, held after the end, gone."""

    OPEN = "OPEN"
    REDEEMABLE = "REDEEMABLE"
    CLOSED = "CLOSED"


class PositionRow(msgspec.Struct):
    """One row of ``/v2/positions``. ``total_size`` is what was ever bought, ``current_size`` what is left."""

    unread: ClassVar[frozenset[str]] = unread.POSITION

    proxy_wallet: str
    condition_id: str
    token_id: str
    current_size: Decimal
    avg_price: Decimal
    realized_pnl: Decimal
    status: str
    outcome_index: int
    total_size: Decimal


class ActivityRow(msgspec.Struct):
    """One row of ``/v2/activity``. All fields are there; what does not apply is empty, 0 or 999.

    ``usdc_size`` of a trade is what was paid or got, fees included. ``side`` is that of a trade, or ``IN``
    and ``OUT`` of a tip.
    """

    unread: ClassVar[frozenset[str]] = unread.ACTIVITY

    proxy_wallet: str
    timestamp: int
    type: str
    size: Decimal
    usdc_size: Decimal
    price: Decimal
    condition_id: str
    token_id: str
    outcome_index: int
    side: str
    transaction_hash: str


class HolderRow(msgspec.Struct):
    """One holder of one outcome; ``amount`` is net of what the wallet holds of the other."""

    unread: ClassVar[frozenset[str]] = unread.HOLDER

    proxy_wallet: str
    amount: Decimal


class HolderGroup(msgspec.Struct):
    """One row of ``/v2/holders``: an outcome and its largest holders."""

    unread: ClassVar[frozenset[str]] = frozenset()

    token_id: str
    holders: list[HolderRow]


class LeaderRow(msgspec.Struct):
    """One row of ``/v2/leaderboard``; ``user_id`` is a wallet, ``volume`` counts contracts, not dollars."""

    unread: ClassVar[frozenset[str]] = unread.LEADER

    rank: int
    user_id: str
    pnl: Decimal
    volume: Decimal
