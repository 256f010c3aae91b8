import asyncio

import pytest

from pm_pipeline.sources.limiter import AdaptiveLimiter


class Time:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds


def limiter(time: Time, rate: float = 4.0, burst: int = 2, **more: float) -> AdaptiveLimiter:
    return AdaptiveLimiter(rate, burst, clock=time.clock, sleep=time.sleep, **more)


async def _take(of: AdaptiveLimiter, times: int) -> None:
    for _ in range(times):
        await of.acquire()


def test_a_burst_leaves_at_once_and_the_rest_at_the_rate() -> None:
    time = Time()
    asyncio.run(_take(limiter(time), 5))
    assert time.slept == [0.25, 0.25, 0.25]


def test_an_idle_time_refills_no_more_than_the_burst() -> None:
    time = Time()

    async def scenario() -> None:
        of = limiter(time)
        await _take(of, 2)
        time.now += 3600
        await _take(of, 3)

    asyncio.run(scenario())
    assert time.slept == [0.25]


def test_throttling_halves_the_rate_down_to_the_floor_and_success_gives_it_back_step_by_step() -> None:
    of = limiter(Time(), 8, floor_per_s=3, step_per_s=2)
    rates = [of.rate]
    for answer in (of.throttled, of.throttled, of.succeeded, of.succeeded, of.succeeded):
        answer()
        rates.append(of.rate)
    assert rates == [8, 4, 3, 5, 7, 8]


def test_a_slower_rate_holds_for_the_next_request() -> None:
    time = Time()

    async def scenario() -> None:
        of = limiter(time, 4, 1)
        await of.acquire()
        of.throttled()
        await of.acquire()

    asyncio.run(scenario())
    assert time.slept == [0.5]


def test_nothing_leaves_before_a_pause_is_over_and_a_shorter_pause_does_not_shorten_it() -> None:
    time = Time()

    async def scenario() -> None:
        of = limiter(time)
        of.pause(30)
        of.pause(5)
        await of.acquire()

    asyncio.run(scenario())
    assert time.slept == [30]


def test_callers_are_served_in_the_order_in_which_they_came() -> None:
    time, served = Time(), []

    async def scenario() -> None:
        of = limiter(time, 4, 1)

        async def one(name: int) -> None:
            await of.acquire()
            served.append(name)

        await asyncio.gather(*(one(name) for name in range(5)))

    asyncio.run(scenario())
    assert served == [0, 1, 2, 3, 4]


def test_rounding_of_a_late_clock_does_not_stall_a_caller() -> None:
    time = Time()
    time.now = 1e9 + 0.1
    asyncio.run(_take(limiter(time, 3.0, 1), 50))
    assert len(time.slept) == 49


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_limiter_that_would_never_let_anything_through_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        AdaptiveLimiter(rate, burst)
