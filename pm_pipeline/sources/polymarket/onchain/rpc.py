"""Logs from a Polygon node by JSON-RPC: in windows of blocks that shrink when the node finds them too large.

What the node says is not believed by itself: the fills of each window are compared with a second question,
for the matches alone.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from pm_pipeline.markets.clock import SECOND, Nanos
from pm_pipeline.sources.adapter import Window
from pm_pipeline.sources.errors import BadRequest, BadResponse, SourceError, SourceUnavailable
from pm_pipeline.sources.http import HttpClient
from pm_pipeline.sources.polymarket.onchain.chain import (
    FILLED,
    MATCHED,
    Log,
    Tokens,
    in_order,
    of_exchanges,
    quantity,
    require_matched,
    to_events,
    wanted,
)
from pm_pipeline.sources.polymarket.onchain.fills import EXCHANGES, Events
from pm_pipeline.sources.wire import convert

CHAIN: Final = 137
"""Polygon's number. On any other chain there are no fills, which would look like markets without a trade."""

FIRST_BLOCK: Final = 33_605_403
"""Where the first exchange was deployed."""

CONFIRMATIONS: Final = 64
"""Blocks behind the head that are not read yet: they might still be replaced."""

TRIES: Final = 4

_FIRST_SPAN: Final = 2_000
_LONGEST_SPAN: Final = 1_000_000
_FEW: Final = 2_000
"""Fewer logs than these in a window let the next one be longer."""

_TOO_MANY: Final = re.compile(
    r"too (many|large|big|wide)|more than \d+|exceed|limit|\branges?\b|response size|time(d )?out",
    re.I,
)
_THROTTLED: Final = re.compile(r"\brate\b|per second|capacity|quota|credits|too many requests", re.I)


class _Failure(msgspec.Struct):
    message: str = "no message"
    code: int = 0


class _Answer(msgspec.Struct):
    result: Any = None
    error: _Failure | None = None


class _Header(msgspec.Struct):
    timestamp: str


class TooMuch(SourceError):  # noqa: N818 - the state of the answer, not a mistake of the caller
    """A node refuses a window of blocks as too large."""


class Node:
    """Asks one node; ``client`` must be open, its base address is the node's."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._times: dict[int, int] = {}
        self._chain: int | None = None

    async def head(self) -> int:
        """The last block that will not change any more. Raises :class:`BadResponse` for another chain."""
        if self._chain is None:
            self._chain = self._number(await self._call("eth_chainId"))
        if self._chain != CHAIN:
            raise BadResponse(
                f"eth_chainId: the node is of chain {self._chain}, not Polygon ({CHAIN}); set PM_POLYGON_RPC"
            )
        return max(self._number(await self._call("eth_blockNumber")) - CONFIRMATIONS, 0)

    async def time_of(self, block: int) -> int:
        """Seconds of a block."""
        if block not in self._times:
            answer = await self._call("eth_getBlockByNumber", hex(block), False)
            if answer is None:
                raise BadResponse(f"eth_getBlockByNumber: the node does not have block {block}")
            header = convert(answer, _Header, "eth_getBlockByNumber")
            self._times[block] = quantity(header.timestamp, "timestamp")
        return self._times[block]

    async def reach(self) -> Nanos:
        """The time of :meth:`head`."""
        return await self.time_of(await self.head()) * SECOND

    async def first_block(self, moment: Nanos, low: int, high: int) -> int:
        """The first block at or after a moment, or ``high + 1``."""
        while low <= high:
            middle = (low + high) // 2
            if await self.time_of(middle) * SECOND < moment:
                low = middle + 1
            else:
                high = middle - 1
        return low

    async def events(self, tokens: Tokens, window: Window) -> AsyncIterator[Events]:
        """All fills of some tokens in a window, in pieces of whole blocks, in their order."""
        async for fills in self._spans(window, self._fills):
            mine = wanted(fills, tokens)
            self._times = {}
            if mine:
                yield to_events(mine, tokens, await self._missing_times(mine))

    async def logs(
        self, addresses: Sequence[str], topics: Sequence[Sequence[str]], window: Window
    ) -> AsyncIterator[tuple[list[Log], Mapping[int, int]]]:
        """The logs of some contracts by their topics (any of each place), with seconds by their block.

        Nothing tells of a log that is missing, so an answer is believed when it was given twice.
        """

        async def read(first: int, last: int) -> list[Log]:
            former: list[Log] | None = None
            trouble: BadResponse | None = None
            for _ in range(TRIES):
                try:
                    found = in_order(await self._logs(first, last, topics, addresses))
                except BadResponse as error:
                    trouble = error
                    continue
                if found == former:
                    return found
                former = found
            raise trouble or BadResponse(
                f"eth_getLogs: blocks {first} to {last} were answered differently {TRIES} times"
            )

        async for found in self._spans(window, read):
            self._times = {}
            blocks = {quantity(log.block_number, "blockNumber"): log.block_timestamp for log in found}
            yield (
                found,
                {
                    block: await self.time_of(block) if stamp is None else quantity(stamp, "blockTimestamp")
                    for block, stamp in sorted(blocks.items())
                },
            )

    async def _spans(
        self, window: Window, read: Callable[[int, int], Awaitable[list[Log]]]
    ) -> AsyncIterator[list[Log]]:
        """What ``read`` finds in consecutive spans of blocks, as long as the node bears."""
        head = await self.head()
        block = await self.first_block(window.start, FIRST_BLOCK, head)
        end = await self.first_block(window.end, block, head)
        span, ceiling = _FIRST_SPAN, _LONGEST_SPAN
        while block < end:
            last = min(block + span, end) - 1
            try:
                found = await read(block, last)
            except TooMuch as refusal:
                if last == block:
                    raise BadResponse(f"eth_getLogs: block {block} alone is too much: {refusal}") from refusal
                span = ceiling = max((last - block + 1) // 2, 1)
                continue
            block = last + 1
            yield found
            if len(found) < _FEW:
                span = min(2 * span, ceiling)

    async def _missing_times(self, logs: Sequence[Log]) -> Mapping[int, int]:
        untimed = {quantity(log.block_number, "blockNumber") for log in logs if log.block_timestamp is None}
        return {block: await self.time_of(block) for block in sorted(untimed)}

    async def _fills(self, first: int, last: int) -> list[Log]:
        """The fills of some blocks, which agree with the matches of the same blocks."""
        trouble: BadResponse | None = None
        for _ in range(TRIES):
            fills, _ = of_exchanges(await self._logs(first, last, [FILLED]))
            _, matches = of_exchanges(await self._logs(first, last, [MATCHED]))
            try:
                ordered = in_order(fills)
                require_matched(ordered, in_order(matches))
            except BadResponse as error:
                trouble = error
            else:
                return ordered
        raise BadResponse(f"eth_getLogs: blocks {first} to {last}, asked {TRIES} times: {trouble}")

    async def _logs(
        self,
        first: int,
        last: int,
        topics: Sequence[Sequence[str]],
        addresses: Iterable[str] = EXCHANGES,
    ) -> list[Log]:
        asked = {
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "address": list(addresses),
            "topics": [list(place) for place in topics],
        }
        logs = convert(await self._call("eth_getLogs", asked), list[Log], "eth_getLogs")
        for log in logs:
            if not first <= quantity(log.block_number, "blockNumber") <= last:
                raise BadResponse(f"eth_getLogs: block {log.block_number} was not asked for")
        return logs

    async def _call(self, method: str, *params: object) -> Any:
        # always the same number, so that an archived answer is found again
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        try:
            answer = convert(await self._client.post("", request), _Answer, method)
        except BadRequest as error:
            if error.status in {400, 413} and _TOO_MANY.search(str(error)):
                raise TooMuch(str(error)) from error
            raise
        if answer.error is None:
            return answer.result
        said = f"{method}: {answer.error.message[:300]} ({answer.error.code})"
        if _THROTTLED.search(answer.error.message):
            raise SourceUnavailable(f"{said}. The node limits how often it may be asked; try again later")
        if _TOO_MANY.search(answer.error.message):
            raise TooMuch(said)
        raise BadResponse(said)

    def _number(self, answer: Any) -> int:
        return quantity(convert(answer, str, "a number"), "number")
