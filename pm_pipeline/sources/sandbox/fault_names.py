"""The names of the faults that the sandbox knows."""

from enum import StrEnum
from typing import Final


class Fault(StrEnum):
    """What can go wrong."""

    RATE_LIMITED = "rate_limited"
    RATE_LIMITED_WITH_WAIT = "rate_limited_with_wait"
    SERVER_ERROR = "server_error"
    UNAVAILABLE = "unavailable"
    RESTARTING = "restarting"
    STALL = "stall"
    CUT_BODY = "cut_body"
    EMPTY_PAGE = "empty_page"
    REPEATED_CURSOR = "repeated_cursor"
    OUT_OF_ORDER = "out_of_order"
    DUPLICATE_ROWS = "duplicate_rows"
    STALE = "stale"
    SEQUENCE_GAP = "sequence_gap"
    NEW_FIELD = "new_field"
    MISSING_FIELD = "missing_field"


DRIFT: Final = (Fault.NEW_FIELD, Fault.MISSING_FIELD)
"""Faults of the form of rows: asking again does not help."""
