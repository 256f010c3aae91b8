"""Faults of Polymarket's market channel: nothing in a frame tells of one that is missing."""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from starlette.types import Message, Send

from pm_pipeline.sources.sandbox.fault_names import Fault

_Spoiling: TypeAlias = Literal["drop", "silence", "swap", "twice", "cut"]

SPOILED: Final[Mapping[Fault, _Spoiling]] = {
    Fault.UNAVAILABLE: "drop",
    Fault.STALL: "silence",
    Fault.OUT_OF_ORDER: "swap",
    Fault.DUPLICATE_ROWS: "twice",
    Fault.CUT_BODY: "cut",
}
"""What a fault does: close the connection, fall silent, swap two frames, send one twice, or half of one."""

_RESTARTING: Final = 1012


def spoiling(send: Send, fault: Fault, nth: int) -> Send:
    """Let everything through up to the ``nth`` change of a level, which goes wrong."""
    how = SPOILED[fault]
    seen = 0
    held: Message | None = None
    ended = False

    async def sender(message: Message) -> None:
        nonlocal seen, held, ended
        is_change = '"price_change"' in message.get("text", "")
        seen += is_change
        if ended:
            return
        if held is not None and is_change and _follows(message["text"], held["text"]):
            await send(message)
            message, held = held, None
        elif is_change and seen == nth:
            if how == "swap":
                held = message
                return
            if how in {"drop", "silence"}:
                ended = True
                if how == "drop":
                    await send({"type": "websocket.close", "code": _RESTARTING, "reason": "restart"})
                return
            if how == "twice":
                await send(message)
            if how == "cut":
                message = {**message, "text": message["text"][: len(message["text"]) // 2]}
        await send(message)

    return sender


def _follows(frame: str, held: str) -> bool:
    """Whether a change is about the same market as another one, and of a later time."""
    market, time = (text.partition('"timestamp"')[0] for text in (frame, held)), '"price_changes"'
    return len(set(market)) == 1 and frame.partition(time)[0] != held.partition(time)[0]
