"""One partition per wallet that is followed."""

from typing import Final

import dagster as dg

WALLETS: Final = dg.DynamicPartitionsDefinition(name="wallets")
"""The key is the address, in small letters."""
