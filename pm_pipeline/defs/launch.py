"""Runs inside a run: a job's op starts the asset jobs that do the work, so that each asset is really
materialised, with its own events, partitions and lineage."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from pm_pipeline.errors import PipelineError, UsageError

RUN_TAG: Final = "pm/run"
"""Tag of every run that belongs to one backtest: the id of the run that started them."""

RANGE_START: Final = "dagster/asset_partition_range_start"
RANGE_END: Final = "dagster/asset_partition_range_end"

Resolve = Callable[[str], dg.JobDefinition]
"""Finds a job of the code location by name."""


@dataclass(frozen=True, slots=True)
class Launcher:
    """Starts jobs of the same code location, in this process, on the same instance."""

    context: dg.OpExecutionContext
    resolve: Resolve
    loggers: Mapping[str, Any]

    def run(
        self,
        job: str,
        *,
        partitions: tuple[str, str] | None = None,
        assets: Sequence[dg.AssetKey] | None = None,
        ops: Mapping[str, Any] | None = None,
    ) -> None:
        """Run ``job`` over a partition range and wait for it. Steps that do not depend on a failed one go on.

        Raises
        ------
        PipelineError
            with the message of the first step that failed, when that was an error of ours.
        DagsterExecutionInterruptedError
            when the run was interrupted, for then this one is too.
        RuntimeError
            with its traceback, when it was another.
        """
        tags = {RUN_TAG: run_id_of(self.context)}
        if partitions:
            tags |= {RANGE_START: partitions[0], RANGE_END: partitions[1]}
        result = self.resolve(job).execute_in_process(
            instance=self.context.instance,
            tags=tags,
            asset_selection=assets,
            run_config={"ops": dict(ops or {}), "loggers": dict(self.loggers)},
            raise_on_error=False,
        )
        if not result.success:
            raise _failure(result)


def _failure(result: dg.ExecuteInProcessResult) -> BaseException:
    """The error that made a run fail, as an exception again: ours if one of ours is among its causes."""
    for event in result.all_events:
        if event.is_step_failure and (error := event.step_failure_data.error):
            for cause in _causes(error):
                if cause.cls_name == dg.DagsterExecutionInterruptedError.__name__:
                    return dg.DagsterExecutionInterruptedError()
                kind = next((k for k in (UsageError, PipelineError) if _is(k, cause.cls_name)), None)
                if kind:
                    return kind(cause.message.strip().partition(": ")[2])
            return RuntimeError(error.to_string())
    return PipelineError(f"run {result.run_id} failed; its log says why")


def _causes(error: SerializableErrorInfo | None) -> Iterator[SerializableErrorInfo]:
    while error:
        yield error
        error = error.cause


def _is(kind: type[PipelineError], name: str | None) -> bool:
    return name == kind.__name__ or any(_is(sub, name) for sub in kind.__subclasses__())


def run_id_of(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> str:
    """The id of the backtest that this run belongs to: its own, unless another run started it."""
    return str(context.run.tags.get(RUN_TAG, context.run.run_id))
