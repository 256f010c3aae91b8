"""How fast we may ask one host: a token bucket that slows down when the host says so, and recovers.

``aiolimiter`` and its kin hold a fixed rate and know no "not before". Venues publish limits that are not the
ones they enforce, and answer 429 with or without a ``Retry-After``; so the rate follows the answers here, by
additive increase and multiplicative decrease, as TCP does.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

_NEARLY: Final = 1e-9
"""A token short by this much counts as whole, so that rounding of the clock cannot stall a caller."""


class AdaptiveLimiter:
    """At most ``rate_per_s`` requests per second on average, and ``burst`` at once.

    Parameters
    ----------
    rate_per_s:
        the rate that is never exceeded; :attr:`rate` is the present one, at or below it.
    burst:
        how many requests may leave together after a pause.
    floor_per_s:
        the rate never falls below this; a tenth of ``rate_per_s`` unless told.
    step_per_s:
        what one success gives back; a fiftieth of ``rate_per_s`` unless told.
    clock, sleep:
        seconds that only go forward, and how to wait.
    """

    def __init__(
        self,
        rate_per_s: float,
        burst: int = 1,
        *,
        floor_per_s: float | None = None,
        step_per_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        if rate_per_s <= 0 or burst < 1:
            raise ValueError("rate_per_s must be positive and burst at least 1")
        self._ceiling = rate_per_s
        self._floor = rate_per_s / 10 if floor_per_s is None else floor_per_s
        self._step = rate_per_s / 50 if step_per_s is None else step_per_s
        self._rate = rate_per_s
        self._burst = burst
        self._clock = clock
        self._sleep = sleep
        self._tokens = float(burst)
        self._refilled_at = clock()
        self._not_before = self._refilled_at
        self._turn = asyncio.Lock()

    @property
    def rate(self) -> float:
        """Requests per second at present."""
        return self._rate

    async def acquire(self) -> None:
        """Wait for one's turn; callers are served in the order in which they came."""
        async with self._turn:
            while (wait := self._wait()) > 0:
                await self._sleep(wait)
            self._tokens -= 1

    def throttled(self) -> None:
        """The host said that we ask too fast: halve the rate."""
        self._refill()
        self._rate = max(self._rate / 2, self._floor)

    def succeeded(self) -> None:
        """The host answered: give a little of the rate back."""
        self._refill()
        self._rate = min(self._rate + self._step, self._ceiling)

    def pause(self, seconds: float) -> None:
        """Let no request leave for this many seconds; a pause never shortens another one."""
        self._not_before = max(self._not_before, self._clock() + seconds)

    def _refill(self) -> None:
        now = self._clock()
        self._tokens = min(self._tokens + (now - self._refilled_at) * self._rate, float(self._burst))
        self._refilled_at = now

    def _wait(self) -> float:
        self._refill()
        for_token = (1 - self._tokens) / self._rate if self._tokens < 1 - _NEARLY else 0.0
        return max(for_token, self._not_before - self._refilled_at)
