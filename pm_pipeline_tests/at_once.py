"""Many cases on one event loop, a few at a time.

A request has 20 seconds. A hundred cases that take turns on one loop make each other's requests wait for the
work of all; on a slow machine that is longer, and a test fails of its own weight.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Final, TypeVar

AT_ONCE: Final = 6

T = TypeVar("T")


async def few_at_once(cases: Iterable[Awaitable[T]]) -> list[T]:
    """The answers, in the order of the cases."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(case: Awaitable[T]) -> T:
        async with gate:
            return await case

    return await asyncio.gather(*(one(case) for case in cases))
