"""Builders of matches as the exchanges log them, and a world that straddles the change of exchanges."""

from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from typing import Any

from pm_pipeline.markets.clock import MINUTE, parse_time
from pm_pipeline.markets.market import Market
from pm_pipeline.sources.polymarket.onchain.chain import (
    FILLED_V1,
    FILLED_V2,
    MATCHED_V1,
    MATCHED_V2,
    Log,
    to_events,
    tokens_of,
)
from pm_pipeline.sources.polymarket.onchain.fills import EXCHANGES, Contract, Events, to_rows
from pm_pipeline.sources.sandbox import World, generate_world
from pm_pipeline.sources.sandbox.plans import SPORTS_FEES, question_event
from pm_pipeline_tests.sources.polymarket.material import MARKET

ADDRESS_OF = {contract: address for address, contract in EXCHANGES.items()}
SECOND = 1_778_439_412
TOKENS = ("111", "222")


def digest(*parts: object) -> str:
    return "0x" + sha256(repr(parts).encode()).hexdigest()


def address(name: str) -> str:
    return digest("wallet", name)[:42]


def word(value: int | str) -> str:
    return f"{int(value, 16) if isinstance(value, str) else value:064x}"


@dataclass(frozen=True)
class Order:
    """One order of a match: whose, which way, of which outcome, contracts, dollars, fee."""

    wallet: str
    buys: bool
    outcome: int
    size: int
    cash: int
    fee: int = 0


def filled(
    order: Order,
    taker: str,
    contract: Contract = Contract.V2,
    *,
    tx: str = "tx",
    index: int = 0,
    second: int | None = SECOND,
    block: int = 86_685_545,
) -> Log:
    """The ``OrderFilled`` log of an order; ``taker`` is an address."""
    token = int(TOKENS[order.outcome])
    given, taken = (order.cash, order.size) if order.buys else (order.size, order.cash)
    if contract.fee_in_proceeds:
        gave, got = (0, token) if order.buys else (token, 0)
        topic, words = FILLED_V1, [gave, got, given, taken, order.fee]
    else:
        topic, words = FILLED_V2, [0 if order.buys else 1, token, given, taken, order.fee, 0, 0]
    return Log(
        address=ADDRESS_OF[contract],
        topics=[topic, digest("order", order, index), "0x" + word(address(order.wallet)), "0x" + word(taker)],
        data="0x" + "".join(map(word, words)),
        block_number=hex(block),
        transaction_hash=digest(tx),
        log_index=hex(index),
        block_timestamp=None if second is None else hex(second),
    )


def matched(fill: Log) -> Log:
    """The ``OrdersMatched`` log that follows the fill of an active order."""
    words = fill.data[2:][: 5 * 64]
    v2 = fill.topics[0] == FILLED_V2
    return Log(
        address=fill.address,
        topics=[MATCHED_V2 if v2 else MATCHED_V1, *fill.topics[1:3]],
        data="0x" + words[: 4 * 64],
        block_number=fill.block_number,
        transaction_hash=fill.transaction_hash,
        log_index=hex(int(fill.log_index, 16) + 1),
        block_timestamp=fill.block_timestamp,
    )


def match_logs(
    makers: list[Order],
    taker: Order | None,
    contract: Contract = Contract.V2,
    *,
    tx: str = "tx",
    start: int = 0,
) -> list[Log]:
    """The logs of one match in their order."""
    active = address(taker.wallet if taker else "operator")
    found = [filled(order, active, contract, tx=tx, index=start + 2 * n) for n, order in enumerate(makers)]
    if taker is not None:
        last = filled(taker, ADDRESS_OF[contract], contract, tx=tx, index=start + 2 * len(makers))
        found += [last, matched(last)]
    return found


def events_of(logs: list[Log]) -> Events:
    return to_events([log for log in logs if log.topics[0] in {FILLED_V1, FILLED_V2}], tokens_of([MARKET]))


def rows_of_logs(logs: list[Log]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = to_rows(events_of(logs), MARKET.key, "test", 0).to_pylist()
    return rows


PLANS = (
    question_event(
        "before-the-freeze",
        "Before?",
        opened="2026-04-24T00:00:00Z",
        closed="2026-04-26T12:00:00Z",
        category="Sports",
        fees=SPORTS_FEES,
        chance=0.4,
    ),
    question_event(
        "across-the-freeze",
        "Across?",
        opened="2026-04-27T00:00:00Z",
        closed="2026-04-29T12:00:00Z",
        category="Sports",
        fees=SPORTS_FEES,
        chance=0.5,
    ),
    question_event(
        "after-the-freeze",
        "After?",
        opened="2026-05-20T00:00:00Z",
        closed="2026-05-21T12:00:00Z",
        category="Sports",
        fees=SPORTS_FEES,
        chance=0.6,
    ),
)


@lru_cache(maxsize=1)
def chain_world() -> World:
    """Three markets: traded before the change of exchanges, across it, and after it."""
    plans = [replace(plan, step=10 * MINUTE) for plan in PLANS]
    return generate_world(plans=plans, now=parse_time("2026-05-25T00:00:00Z"))


def markets() -> list[Market]:
    """The three markets as the catalog has them: closed, with the volume that the venue prints."""
    return [
        replace(m.market, traded_until=m.market.scheduled_close, volume=m.volume())
        for m in chain_world().polymarket.values()
    ]
