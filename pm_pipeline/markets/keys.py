"""Market keys: ``venue:native_id`` names a market everywhere, and is its partition key."""

import re
from enum import StrEnum
from typing import Final, NamedTuple, Self

from pm_pipeline.errors import UsageError, did_you_mean

_PARTITION_KEY: Final = re.compile(r"[A-Za-z0-9_.:-]+")


class Venue(StrEnum):
    """Where a market trades."""

    POLYMARKET = "polymarket"
    KALSHI = "kalshi"
    ALPACA = "alpaca"


_VENUES: Final = frozenset(Venue)


class KeyFormatError(UsageError):
    """Text is not a market key."""


def check_partition_key(key: str) -> str:
    """Return ``key`` if Dagster can carry it safely as a partition key, else raise.

    Dagster accepts any text, but ``|``, ``...`` and line breaks break ranges and multi-dimensional keys.
    """
    if not _PARTITION_KEY.fullmatch(key) or "..." in key:
        raise KeyFormatError(
            f"{key!r} cannot be a partition key; letters, digits and _ . : - are allowed, and no '...'"
        )
    return key


class MarketKey(NamedTuple):
    """``polymarket:654414`` (a Gamma id), ``kalshi:KXHIGHNY-26JUL10-B85.5``, ``alpaca:SPY``."""

    venue: Venue
    native_id: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a key. Raises :class:`KeyFormatError` with the nearest venue when it is not one."""
        venue, colon, native_id = text.partition(":")
        if not colon or not native_id:
            raise KeyFormatError(
                f"{text!r} is not a market key; write venue:id, for example polymarket:654414"
            )
        if venue not in _VENUES:
            raise KeyFormatError(f"unknown venue {venue!r} in {text!r}{did_you_mean(venue, [*Venue])}")
        check_partition_key(text)
        return cls(Venue(venue), native_id)

    def __str__(self) -> str:
        return f"{self.venue}:{self.native_id}"
