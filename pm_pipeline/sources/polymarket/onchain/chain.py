"""Logs of the exchanges on Polygon, as nodes and exports give them, and what they say.

Two events matter: ``OrderFilled``, which is decoded, and ``OrdersMatched``, which the exchange emits once per
match and which serves as the control: every match must have the row of its active order, and the reverse.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np

from pm_pipeline.errors import PipelineError
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.errors import BadResponse, SourceError
from pm_pipeline.sources.polymarket.onchain.fills import (
    ADDRESS,
    CODES,
    EXCHANGES,
    HASH,
    Bytes,
    Events,
    Ints,
    hashes,
    require_counts,
    require_seconds,
)

FILLED_V1: Final = "0xd0a08e8c493f9c94f29311604c9de1b4e8c8d4c06bd0c789af57f2d65bfec0f6"
FILLED_V2: Final = "0xd543adfd945773f1a62f74f0ee55a5e3b9b1a28262980ba90b1a89f2ea84d8ee"
MATCHED_V1: Final = "0x63bf4d16b7fa898ef4c4b2b6d90fd201e9c56313b65638af6088d149d2ce956c"
MATCHED_V2: Final = "0x174b3811690657c217184f89418266767c87e4805d09680c39fc9c031c0cab7c"

SIGNATURES: Final[Mapping[str, str]] = {
    FILLED_V1: "OrderFilled(bytes32,address,address,uint256,uint256,uint256,uint256,uint256)",
    FILLED_V2: "OrderFilled(bytes32,address,address,uint8,uint256,uint256,uint256,uint256,bytes32,bytes32)",
    MATCHED_V1: "OrdersMatched(bytes32,address,uint256,uint256,uint256,uint256)",
    MATCHED_V2: "OrdersMatched(bytes32,address,uint8,uint256,uint256,uint256)",
}
"""What each topic is the Keccak-256 hash of."""

FILLED: Final = (FILLED_V1, FILLED_V2)
MATCHED: Final = (MATCHED_V1, MATCHED_V2)

_WORDS: Final = {FILLED_V1: 5, FILLED_V2: 7}
_TOPICS: Final = 4
_WORD: Final = 32

Tokens: TypeAlias = Mapping[bytes, tuple[int, int]]
"""Token id as 32 bytes, to the number of its market and its outcome."""


class Log(msgspec.Struct, rename="camel"):
    """One log as ``eth_getLogs`` gives it; numbers are hexadecimal texts. not all say the time."""

    address: str
    topics: list[str]
    data: str
    block_number: str
    transaction_hash: str
    log_index: str
    block_timestamp: str | None = None
    removed: bool = False


class Match(NamedTuple):
    """What identifies the active order of a match: transaction and order."""

    tx: str
    order_hash: str


def tokens_of(markets: Sequence[Market]) -> Tokens:
    """The token ids of some markets. Raises :class:`SourceError` for a market without, or with a bad one."""
    found: dict[bytes, tuple[int, int]] = {}
    for number, market in enumerate(markets):
        for instrument in market.instruments:
            token = instrument.token_id or ""
            if not (token.isascii() and token.isdecimal()) or len(token) > 78 or int(token) >= 2**256:
                raise SourceError(f"{market.key} has no token id; fetch its catalog entry again")
            found[int(token).to_bytes(_WORD, "big")] = number, instrument.outcome_index
    return found


def quantity(text: str, field: str) -> int:
    """A number as JSON-RPC writes it, hexadecimal after ``0x``. Raises :class:`BadResponse` for others."""
    digits = text[2:]
    if text[:2] != "0x" or not digits.isalnum() or not digits.isascii() or len(digits) > 15:
        raise BadResponse(f"log: {field} is {text[:40]!r}, not a hexadecimal number")
    try:
        return int(digits, 16)
    except ValueError:
        raise BadResponse(f"log: {field} is {text[:40]!r}, not a hexadecimal number") from None


def in_order(logs: Sequence[Log]) -> list[Log]:
    """The logs by block and place. Raises :class:`BadResponse` for one that came twice, or was taken back."""
    placed = {}
    for log in logs:
        if log.removed:
            raise BadResponse(
                f"log: {log.transaction_hash[:80]} was taken back by a reorganisation of the chain; "
                "read its block again"
            )
        place = quantity(log.block_number, "blockNumber"), quantity(log.log_index, "logIndex")
        if place in placed:
            raise BadResponse(f"log: block {place[0]} has two logs of number {place[1]}")
        placed[place] = log
    return [placed[place] for place in sorted(placed)]


def of_exchanges(logs: Iterable[Log]) -> tuple[list[Log], list[Log]]:
    """Those of the exchanges among the logs: the fills, and the matches."""
    fills: list[Log] = []
    matches: list[Log] = []
    for log in logs:
        topic = log.topics[0].lower() if log.topics else ""
        if log.address.lower() in EXCHANGES and topic in SIGNATURES:
            (fills if topic in _WORDS else matches).append(log)
    return fills, matches


def require_matched(fills: Iterable[Log], matches: Iterable[Log]) -> None:
    """Raise :class:`BadResponse` unless each match has the fill of its active order, and the reverse."""
    said = Counter(Match(log.transaction_hash, _topic(log, 1)) for log in matches)
    found = Counter(
        Match(log.transaction_hash, _topic(log, 1))
        for log in fills
        if _topic(log, 3)[-40:].lower() == log.address[-40:].lower()
    )
    if said != found:
        odd = next(iter((said - found) + (found - said)))
        raise BadResponse(
            f"log: {sum(found.values())} fills of active orders, but {sum(said.values())} matches; "
            f"the first without the other is in transaction {odd.tx[:80]}: logs are missing"
        )


def _topic(log: Log, number: int) -> str:
    if len(log.topics) <= number:
        raise BadResponse(f"log: {log.transaction_hash[:80]} has {len(log.topics)} topics")
    return log.topics[number]


def wanted(logs: Iterable[Log], tokens: Tokens) -> list[Log]:
    """The fills and matches of these tokens."""
    texts = {token.hex() for token in tokens}
    return [log for log in logs if _token(log) in texts]


def _token(log: Log) -> str:
    """The token of a fill or match, in hexadecimal: one of the first two words of its data."""
    first, second = log.data[2:66].lower(), log.data[66:130].lower()
    if _topic(log, 0).lower() in {FILLED_V2, MATCHED_V2}:
        return second
    return second if not first.strip("0") else first


def to_events(fills: Sequence[Log], tokens: Tokens, times: Mapping[int, int] | None = None) -> Events:
    """The events of logs that were picked by :func:`wanted`; ``times`` are seconds by block, where logs lack
    them.

    Raises
    ------
    BadResponse
        for a field that is missing, of another form or beyond its range.
    """
    parts = []
    for topic in FILLED:
        own = [log for log in fills if _topic(log, 0).lower() == topic]
        if own:
            parts.append(_events(own, topic, tokens, times or {}))
    return Events.joined(parts)


def _events(logs: Sequence[Log], topic: str, tokens: Tokens, times: Mapping[int, int]) -> Events:
    if any(len(log.topics) != _TOPICS for log in logs):
        raise BadResponse("log: an OrderFilled has four topics")
    words = hashes([log.data for log in logs], _WORDS[topic] * _WORD, "log: data")
    words = words.reshape(len(logs), _WORDS[topic], _WORD)
    wallet = _address([log.topics[2] for log in logs])
    taker = _address([log.topics[3] for log in logs])
    exchange = hashes([log.address for log in logs], ADDRESS, "log: address")
    takes = (taker == exchange).all(axis=1)
    if topic == FILLED_V2:
        sells, token, given, taken, fee = (words[:, n] for n in range(5))
        side = _amounts(sells, "side")
        if len(side) and side.max() > 1:
            raise BadResponse(f"log: side is {side.max()}, neither 0 (buy) nor 1 (sell)")
        buys = side == 0
    else:
        gave, got, given, taken, fee = (words[:, n] for n in range(5))
        buys = (gave == 0).all(axis=1)
        if ((got == 0).all(axis=1) == buys).any():
            raise BadResponse("log: an order must exchange dollars (asset 0) for a token")
        token = np.where(buys.reshape(-1, 1), got, gave)
    places = [tokens.get(row.tobytes(), (-1, -1)) for row in token]
    if (-1, -1) in places:
        raise BadResponse("log: a fill of a token that was not asked for")
    paid, came = _amounts(given, "makerAmountFilled"), _amounts(taken, "takerAmountFilled")
    blocks = [quantity(log.block_number, "blockNumber") for log in logs]
    number = {code: n for n, code in enumerate(CODES)}
    return Events(
        ts=_seconds(logs, blocks, times),
        tx=hashes([log.transaction_hash for log in logs], HASH, "log: transactionHash"),
        order_hash=hashes([log.topics[1] for log in logs], HASH, "log: orderHash"),
        wallet=wallet,
        active=np.where(takes[:, None], wallet, taker),
        takes=takes,
        buys=buys,
        market=np.array([market for market, _ in places], np.int64),
        outcome=np.array([outcome for _, outcome in places], np.int64),
        size=np.where(buys, came, paid),
        cash=np.where(buys, paid, came),
        fee=_amounts(fee, "fee"),
        block=np.array(blocks, np.int64),
        log_index=_places(logs),
        contract=np.array([number[EXCHANGES[log.address.lower()]] for log in logs], np.int64),
    )


def _places(logs: Sequence[Log]) -> Ints:
    places = np.array([quantity(log.log_index, "logIndex") for log in logs], np.int64)
    if places.max() >= 2**31:
        raise BadResponse(f"log: logIndex is {places.max()}")
    return places


def _address(topics: Sequence[str]) -> Bytes:
    padded = hashes(topics, _WORD, "log: topic")
    if padded[:, : _WORD - ADDRESS].any():
        raise BadResponse("log: a topic is no address")
    return padded[:, _WORD - ADDRESS :]


def _amounts(words: Bytes, field: str) -> Ints:
    """256-bit numbers that must fit into 63 bits."""
    if words[:, :24].any():
        raise BadResponse(f"log: {field} does not fit into 64 bits")
    values = np.ascontiguousarray(words[:, 24:]).view(">i8").astype(np.int64).reshape(-1)
    return require_counts(values, f"log: {field}")


def _seconds(logs: Sequence[Log], blocks: Sequence[int], times: Mapping[int, int]) -> Ints:
    found = [
        times.get(block, 0)
        if log.block_timestamp is None
        else quantity(log.block_timestamp, "blockTimestamp")
        for log, block in zip(logs, blocks, strict=True)
    ]
    if 0 in found:
        raise BadResponse(f"log: the time of block {blocks[found.index(0)]} is not known")
    return require_seconds(np.array(found, np.int64), "log: blockTimestamp")


class LogFileError(PipelineError):
    """A file of logs cannot be read."""
