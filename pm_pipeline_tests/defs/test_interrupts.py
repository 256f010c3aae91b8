import asyncio
import signal
import threading

import dagster as dg
import pytest

from pm_pipeline.defs.interrupts import complete


async def _interrupted_in_a_callback(number: signal.Signals, ended: list[str]) -> None:
    """Work of two tasks; the signal comes while the loop runs a callback, not a task."""

    async def wait() -> None:
        try:
            await asyncio.sleep(5)
            ended.append("slept")
        finally:
            ended.append("closed")

    asyncio.get_running_loop().call_soon(signal.raise_signal, number)
    async with asyncio.TaskGroup() as group:
        group.create_task(wait())
        group.create_task(wait())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_the_middle_of_the_loop_ends_all_of_the_work(number: signal.Signals) -> None:
    ended: list[str] = []
    with dg.raise_execution_interrupts():
        before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
        with pytest.raises(dg.DagsterExecutionInterruptedError):
            complete(_interrupted_in_a_callback(number, ended))
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert ended == ["closed", "closed"]


def test_work_returns_what_it_made_and_raises_what_it_raised() -> None:
    async def seven() -> int:
        return 7

    async def broken() -> None:
        raise ValueError("broken")

    before = signal.getsignal(signal.SIGINT)
    assert complete(seven()) == 7
    with pytest.raises(ValueError, match="broken"):
        complete(broken())
    assert signal.getsignal(signal.SIGINT) is before


def test_beside_the_main_thread_signals_are_left_alone() -> None:
    async def three() -> int:
        return 3

    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(complete(three())))
    thread.start()
    thread.join()
    assert found == [3]
