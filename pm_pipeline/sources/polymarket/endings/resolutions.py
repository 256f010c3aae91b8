"""Who says how Polymarket's markets ended: the chain, the Data API, the CLOB and Gamma, each asked in turn.

Requests are few: Gamma is asked for a hundred markets at once, the Data API for twenty events or markets.
The CLOB answers for one market at a time, so by default it is asked only where the others leave a doubt; the
chain is asked where a node or files of logs are configured, for markets that have ended.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from pm_pipeline.markets.clock import DAY, SECOND, Nanos
from pm_pipeline.markets.market import Market
from pm_pipeline.markets.resolution import Claim
from pm_pipeline.sources.adapter import Ending, Window
from pm_pipeline.sources.errors import BadRequest, BadResponse, SourceError
from pm_pipeline.sources.http import HttpClient
from pm_pipeline.sources.polymarket.catalog.gamma import PAGE, market_by_id
from pm_pipeline.sources.polymarket.catalog.records import gamma_market
from pm_pipeline.sources.polymarket.data import RESOLUTIONS, pages, record
from pm_pipeline.sources.polymarket.endings.resolve import Said, agreed, claims_of, decide
from pm_pipeline.sources.polymarket.onchain.chain import Log, LogFileError, quantity
from pm_pipeline.sources.polymarket.onchain.logfiles import files_of, logs_of
from pm_pipeline.sources.polymarket.onchain.rpc import Node
from pm_pipeline.sources.polymarket.wire import ClobMarket, GammaMarket, ResolutionRow
from pm_pipeline.sources.wire import convert

EVENTS_AT_ONCE: Final = 20
"""Events, or conditions, that one request to ``/v2/resolutions`` may name, separated by commas."""

CLOB_MARKETS: Final = "/markets"

CTF: Final = "0x4d97dcd97ec945f40cf65f87097ace5ea0476045"
"""The conditional tokens contract, which pays."""

CONDITION_RESOLUTION: Final = "0xb44d84d3289691f71497564b85d4233648d9dbae8cbdbb4329f301c3a0185894"
"""``ConditionResolution(bytes32,address,bytes32,uint256,uint256[])``, as its Keccak-256 hash."""

BEFORE_CLOSE: Final[Nanos] = 7 * DAY
"""How long before the end of trading, as others tell it, the chain is searched for a resolution."""

_MOST_OUTCOMES: Final = 256
_WORD: Final = 64


class Asked(StrEnum):
    """Whom to ask for the end of a market.

    ``AUTO``: Gamma and the Data API; the chain, where configured, for what has ended; the CLOB for what has
    ended and is not told by two of them alike. ``ALL``: everybody about every market.
    """

    AUTO = "auto"
    ALL = "all"


class ChainEnd(NamedTuple):
    """What a ``ConditionResolution`` log says: payouts as numerators over their sum, and its block's time."""

    numerators: tuple[int, ...]
    at: Nanos
    tx: str


class ChainEnds(Protocol):
    """Where the chain's resolutions are read."""

    async def ends(self, conditions: Sequence[str], window: Window) -> Mapping[str, ChainEnd]:
        """The resolutions of these conditions in a window, by condition id."""
        ...


class NodeEnds:
    """Resolutions from a node, which finds them by their condition."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def ends(self, conditions: Sequence[str], window: Window) -> Mapping[str, ChainEnd]:
        """One search for all conditions."""
        found: dict[str, ChainEnd] = {}
        topics = [[CONDITION_RESOLUTION], [condition.lower() for condition in conditions]]
        async for logs, times in self._node.logs([CTF], topics, window):
            for log in logs:
                _add(found, log, times[quantity(log.block_number, "blockNumber")])
        return {condition: found[condition.lower()] for condition in conditions if condition.lower() in found}


class FileEnds:
    """Resolutions from files of logs, read once; all of them are kept, some 300 bytes each."""

    def __init__(self, path: Path) -> None:
        self._files = files_of(path)
        self._found: dict[str, ChainEnd] | None = None

    async def ends(self, conditions: Sequence[str], window: Window) -> Mapping[str, ChainEnd]:
        """What the files hold of these conditions, whenever it was."""
        del window
        if self._found is None:
            self._found = self._read()
        known = self._found
        return {condition: known[condition.lower()] for condition in conditions if condition.lower() in known}

    def _read(self) -> dict[str, ChainEnd]:
        found: dict[str, ChainEnd] = {}
        for file in self._files:
            try:
                for log in logs_of(file):
                    if is_resolution(log):
                        if log.block_timestamp is None:
                            raise BadResponse("log: blockTimestamp is missing; export it with the logs")
                        _add(found, log, quantity(log.block_timestamp, "blockTimestamp"))
            except (SourceError, LogFileError) as error:
                raise BadResponse(f"{file}: {error}") from error
        return found


def is_resolution(log: Log) -> bool:
    """Whether a log tells of a condition that was resolved."""
    return log.address.lower() == CTF and bool(log.topics) and log.topics[0].lower() == CONDITION_RESOLUTION


def decode_resolution(log: Log, second: int) -> tuple[str, ChainEnd]:
    """The condition of a ``ConditionResolution`` log and what it pays.

    Raises
    ------
    BadResponse
        for a log of another form, and one that a reorganisation of the chain took back.
    """
    where = f"log: {log.transaction_hash[:80]}"
    if log.removed:
        raise BadResponse(f"{where} was taken back by a reorganisation of the chain; read its block again")
    if len(log.topics) != 4 or len(log.topics[1]) != _WORD + 2:
        raise BadResponse(f"{where}: a ConditionResolution has four topics, the second is its condition")
    words = [log.data[at : at + _WORD] for at in range(2, len(log.data), _WORD)]
    try:
        numbers = [int(word, 16) for word in words]
    except ValueError:
        raise BadResponse(f"{where}: data is no hexadecimal text") from None
    slots = numbers[0] if numbers else 0
    form = [slots, 2 * _WORD // 2, slots]
    if not 2 <= slots <= _MOST_OUTCOMES or len(words[-1]) != _WORD or len(numbers) != 3 + slots:
        raise BadResponse(f"{where}: {len(numbers)} words do not hold the payouts of {slots} outcomes")
    if numbers[:3] != form:
        raise BadResponse(f"{where}: data begins with {numbers[:3]}, not with {form}")
    return log.topics[1].lower(), ChainEnd(tuple(numbers[3:]), second * SECOND, log.transaction_hash)


def _add(found: dict[str, ChainEnd], log: Log, second: int) -> None:
    condition, end = decode_resolution(log, second)
    if found.setdefault(condition, end).numerators != end.numerators:
        raise BadResponse(f"log: the chain resolves {condition} twice, {found[condition]} and {end}")


async def data_rows(client: HttpClient, markets: Sequence[Market]) -> dict[str, Any]:
    """The rows of ``/v2/resolutions`` by condition id; a market of which nobody has said anything has none.

    Several markets are asked for by their events, and by themselves where that does not answer.
    """
    found: dict[str, Any] = {}
    events = [event for market in markets if (event := market.event_id)] if len(markets) > 1 else []
    async for row in _listed(client, "event_id", events):
        found[_condition(row)] = row
    left = [condition for market in markets if (condition := str(market.condition_id)) not in found]
    async for row in _listed(client, "condition", left):
        if _condition(row) not in left:
            raise BadResponse(f"{RESOLUTIONS}: asked for {', '.join(left[:3])}, got {_condition(row)}")
        found[_condition(row)] = row
    return found


async def _listed(client: HttpClient, name: str, ids: Sequence[str]) -> AsyncIterator[Any]:
    """The rows of these conditions or events, so many at a time."""
    once = list(dict.fromkeys(ids))
    for start in range(0, len(once), EVENTS_AT_ONCE):
        asked = {name: ",".join(once[start : start + EVENTS_AT_ONCE])}
        async for page in pages(client, RESOLUTIONS, asked):
            for row in page:
                yield row


def _condition(row: Any) -> str:
    condition = row.get("condition_id") if isinstance(row, Mapping) else None
    if not isinstance(condition, str):
        raise BadResponse(f"{RESOLUTIONS}: condition_id is missing, or no text")
    return condition


async def gamma_rows(client: HttpClient, markets: Sequence[Market]) -> dict[str, GammaMarket]:
    """Gamma's records by native id, a hundred at a time; what a listing leaves out is asked for by itself.

    What Gamma does not know any more (404) is left out.
    """
    found: dict[str, GammaMarket] = {}
    if len(markets) > 1:
        ids = {market.key.native_id for market in markets}
        for start in range(0, len(markets), PAGE):
            conditions = [str(market.condition_id) for market in markets[start : start + PAGE]]
            for closed in ("true", "false"):
                asked: dict[str, Any] = {"condition_ids": conditions, "closed": closed, "limit": PAGE}
                body = await client.get("/markets/keyset", asked)
                for row in convert(body, _MarketPage, "/markets/keyset").markets:
                    raw = gamma_market(row, "/markets/keyset")
                    if raw.id in ids:  # a parameter that is not known is ignored, and others are listed
                        found[raw.id] = raw
    for market in markets:
        if market.key.native_id not in found:
            try:
                found[market.key.native_id] = await market_by_id(client, market.key.native_id)
            except BadRequest as error:
                if error.status != 404:
                    raise
    return found


async def clob_market(client: HttpClient, condition_id: str) -> ClobMarket | None:
    """The CLOB's record of one market, which names the winner; ``None`` where it has none."""
    endpoint = f"{CLOB_MARKETS}/{condition_id}"
    try:
        found = convert(await client.get(endpoint), ClobMarket, endpoint)
    except BadRequest as error:
        if error.status == 404:
            return None
        raise
    if found.condition_id != condition_id:
        raise BadResponse(f"{CLOB_MARKETS}: asked for {condition_id}, got {found.condition_id}")
    return found


@dataclass(frozen=True, slots=True)
class Endings:
    """Asks all sources about markets, and decides. ``chain`` is ``None`` where none is configured."""

    gamma: HttpClient
    clob: HttpClient
    data: HttpClient
    chain: ChainEnds | None = None
    asked: Asked = Asked.AUTO

    async def of(self, markets: Sequence[Market], now: Nanos) -> AsyncIterator[Ending]:
        """How each market ended, in their order; an answer that makes no sense is the error of its market.

        Raises :class:`SourceError` where a source fails for all of them.
        """
        askable = [market for market in markets if market.condition_id is not None]
        records = await gamma_rows(self.gamma, askable)
        rows = await data_rows(self.data, askable)
        told: dict[str, Said | SourceError] = {}
        for market in markets:
            told[str(market.key)] = _said(market, records, rows)
        await self._ask_chain(markets, told, now)
        for market in markets:
            said = told[str(market.key)]
            try:
                if isinstance(said, SourceError):
                    raise said
                claims = claims_of(market, said, now)
                if market.condition_id and (self.asked is Asked.ALL or _doubtful(claims)):
                    said = replace(said, clob=await clob_market(self.clob, market.condition_id))
                    claims = claims_of(market, said, now)
                yield Ending(market, decide(market, said, claims, now), tuple(claims))
            except SourceError as error:
                yield Ending(market, None, (), error)

    async def _ask_chain(
        self, markets: Sequence[Market], told: dict[str, Said | SourceError], now: Nanos
    ) -> None:
        if self.chain is None:
            return
        asked: list[str] = []
        starts: list[Nanos] = []
        for market in markets:
            said = told[str(market.key)]
            if isinstance(said, SourceError) or market.condition_id is None:
                continue
            try:
                ended = said.ended_at
            except SourceError as error:
                told[str(market.key)] = error
                continue
            if self.asked is Asked.ALL or ended is not None:
                asked.append(market.condition_id)
                starts.append(max(market.opened_at or 0, (ended or 0) - BEFORE_CLOSE))
        if not asked:
            return
        found = await self.chain.ends(asked, Window(min(starts), now))
        for market in markets:
            said = told[str(market.key)]
            end = found.get(market.condition_id or "")
            if isinstance(said, Said) and end is not None:
                told[str(market.key)] = replace(said, chain=end)


def _said(market: Market, records: Mapping[str, GammaMarket], rows: Mapping[str, Any]) -> Said | SourceError:
    """What Gamma and the Data API say of one market, or the error in it."""
    if market.condition_id is None:
        return SourceError(f"{market.key} has no condition id; fetch its catalog entry again")
    listed = records.get(market.key.native_id)
    if listed is None:
        return SourceError(f"Gamma has no market {market.key} any more, so nobody says whether it is closed")
    try:
        row = rows.get(market.condition_id)
        return Said(
            gamma=listed,
            data=None if row is None else record(row, ResolutionRow, RESOLUTIONS),
        )
    except SourceError as error:
        return error


def _doubtful(claims: Sequence[Claim]) -> bool:
    """Whether a market has ended, by any word, and no two sources say alike what it pays."""
    return any(claim.status.value != "open" for claim in claims) and not agreed(claims)


class _MarketPage(msgspec.Struct):
    markets: list[Any]
