"""What every asset that reads a source does with what came: check it, take out what is impossible, report."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import dagster as dg

from pm_pipeline.defs.market_data.checks import Check, Violations
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.errors import PipelineError
from pm_pipeline.sources.ingest import Outcome, withdraw
from pm_pipeline.warehouse.lake import Lake

SHOWN: Final = 20

Results: TypeAlias = Iterator[dg.AssetCheckResult | dg.MaterializeResult]
TakeOut: TypeAlias = Callable[[Lake, Outcome, str], Outcome]
"""Takes a partition that breaks a blocking rule out of the lake, with the reason."""


def materialised(
    context: dg.AssetExecutionContext,
    workspace: Workspace,
    checks: Sequence[Check],
    outcomes: Sequence[Outcome],
    told: Callable[[Sequence[Outcome]], Mapping[str, Any]],
    take_out: TakeOut = withdraw,
) -> Results:
    """The results of the checks, then the materialisation; ``told`` is what it says beside the rows.

    Raises
    ------
    PipelineError
        where a partition could not be read, or broke a blocking rule.
    """
    for check in checks:
        violations = check.find(workspace.lake, outcomes)
        yield result_of(check, violations, len(outcomes))
        if check.blocking:
            outcomes = withdrawn(workspace.lake, check, violations, outcomes, take_out)
    report(context, outcomes)
    yield dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(outcome.coverage.rows for outcome in outcomes),
            **told(outcomes),
            "world": workspace.settings.label,
        }
    )


def result_of(check: Check, violations: Violations, markets: int) -> dg.AssetCheckResult:
    """What Dagster shows of one check over the partitions of a run."""
    return dg.AssetCheckResult(
        check_name=check.name,
        passed=not violations,
        severity=check.severity,
        metadata={
            "markets": markets,
            "violations": len(violations),
            "first": first_of(violations),
        },
    )


def first_of(violations: Violations) -> dg.MarkdownMetadataValue:
    """The first violations as a list, each a partition and what is wrong with it."""
    lines = [f"- `{key}`: {detail}" for key, detail in violations[:SHOWN]]
    return dg.MetadataValue.md("\n".join(lines) or "none")


def withdrawn(
    lake: Lake,
    check: Check,
    violations: Violations,
    outcomes: Sequence[Outcome],
    take_out: TakeOut = withdraw,
) -> list[Outcome]:
    """The outcomes, those that break the check as failures: their partitions are taken out of the lake."""
    reasons = dict(violations)
    return [
        take_out(lake, outcome, f"{check.name}: {reasons[outcome.market_key]}")
        if outcome.market_key in reasons
        else outcome
        for outcome in outcomes
    ]


def report(context: dg.AssetExecutionContext, outcomes: Sequence[Outcome]) -> None:
    """Log what came, and fail the step if any partition could not be read.

    The partitions that were read stay materialised: they are recorded before the step fails, so that a
    re-run needs to fetch only the others.
    """
    failed = [outcome for outcome in outcomes if outcome.error]
    context.log.info(
        f"{context.asset_key.to_user_string()}: {len(outcomes) - len(failed)} of {len(outcomes)} partitions"
    )
    if not failed:
        return
    for outcome in outcomes:
        if not outcome.error and len(outcomes) > 1:
            context.log_event(
                dg.AssetMaterialization(
                    context.asset_key,
                    partition=outcome.market_key,
                    metadata={"dagster/partition_row_count": outcome.coverage.rows},
                )
            )
    shown = "\n".join(f"  {outcome.market_key}: {outcome.error}" for outcome in failed[:SHOWN])
    more = f"\n  … and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    raise PipelineError(
        f"{len(failed)} of {len(outcomes)} partitions were not written; their former rows stay. "
        f"Materialise them again once the cause is gone:\n{shown}{more}"
    )
