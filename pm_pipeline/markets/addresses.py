"""Addresses of wallets: ``0x`` and forty hexadecimal digits, in small letters everywhere."""

import re
from typing import Final

from pm_pipeline.errors import UsageError

_ADDRESS: Final = re.compile(r"0x[0-9a-f]{40}")


class AddressError(UsageError):
    """Text is not the address of a wallet."""


def parse_address(text: str) -> str:
    """The address in small letters. Raises :class:`AddressError` that says what is wrong with it."""
    address = text.strip().lower()
    if not _ADDRESS.fullmatch(address):
        raise AddressError(f"{text[:80]!r} is not the address of a wallet: {_fault(address)}")
    return address


def _fault(text: str) -> str:
    if not text.startswith("0x"):
        return "write 0x and forty hexadecimal digits, as on the wallet's profile page"
    digits = text.removeprefix("0x")
    if strange := sorted(set(digits) - set("0123456789abcdef")):
        return f"{strange[0]!r} is no hexadecimal digit"
    return f"it has {len(digits)} digits after 0x, and must have 40"
