from typing import Any

import dagster as dg
import pytest

from pm_pipeline.defs.launch import Launcher
from pm_pipeline.errors import PipelineError, UsageError
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.warehouse.files import StorageError


def launched(error: BaseException, cause: Exception | None = None) -> dg.ExecuteInProcessResult:
    """A job whose op starts another job, which raises."""

    @dg.op
    def fail() -> None:
        raise error from cause

    @dg.op
    def never(result: Any) -> None:
        raise AssertionError("what depends on a failed step must not run")

    @dg.job
    def inner() -> None:
        never(fail())

    @dg.op
    def start(context: dg.OpExecutionContext) -> None:
        Launcher(context, lambda name: inner, {}).run("inner")

    @dg.job
    def outer() -> None:
        start()

    return outer.execute_in_process()


@pytest.mark.parametrize(
    ("error", "cause", "kind", "message"),
    [
        (UsageError("no such market: x"), None, UsageError, "no such market: x"),
        (BadResponse("a page: is broken"), None, PipelineError, "a page: is broken"),
        (PipelineError("two\nlines"), None, PipelineError, "two\nlines"),
        (StorageError("damaged; delete it"), OSError(5, "input"), PipelineError, "damaged; delete it"),
        (UsageError("outer"), PipelineError("inner"), UsageError, "outer"),
        (RuntimeError("wrapper"), UsageError("within"), UsageError, "within"),
    ],
)
def test_an_error_of_ours_comes_out_of_a_run_within_a_run_as_itself(
    error: Exception, cause: Exception | None, kind: type[Exception], message: str
) -> None:
    with pytest.raises(PipelineError) as caught:
        launched(error, cause)
    assert type(caught.value) is kind
    assert str(caught.value) == message


def test_another_error_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)ZeroDivisionError: by nought.*in fail"):
        launched(ZeroDivisionError("by nought"))


def test_an_interrupt_comes_out_as_an_interrupt() -> None:
    with pytest.raises(dg.DagsterExecutionInterruptedError):
        launched(dg.DagsterExecutionInterruptedError())
