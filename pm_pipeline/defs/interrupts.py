"""Asynchronous work that can be interrupted: by Ctrl-C, by SIGTERM, by *Terminate* in the UI."""

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from dagster import DagsterExecutionInterruptedError

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

T = TypeVar("T")


def complete(work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns; an interrupt cancels it as a whole.

    Dagster raises an interrupt wherever the process happens to be. Within an event loop that is a callback or
    one task of many: the loop takes it for an error of that one, and the others wait for ever.

    Raises :class:`DagsterExecutionInterruptedError` once everything within was cancelled and closed.
    """
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        return asyncio.run(work)
    with _python_interrupts():
        try:
            return asyncio.run(_both_signals(work))
        except KeyboardInterrupt:
            raise DagsterExecutionInterruptedError from None


async def _both_signals(work: Coroutine[Any, Any, T]) -> T:
    """``work``, cancelled by SIGTERM as ``asyncio.run`` lets SIGINT cancel it."""
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    return await work


@contextmanager
def _python_interrupts() -> Iterator[None]:
    """A block with Python's own handler of SIGINT, which ``asyncio.run`` replaces by one that cancels."""
    former = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
