"""Whether what was read of a market by different ways agrees: figures for people, never for strategies."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import dagster as dg

from pm_pipeline.defs.market_data.assets import find_markets
from pm_pipeline.defs.market_data.checked import SHOWN
from pm_pipeline.defs.partitions import MARKETS
from pm_pipeline.defs.progress import counted
from pm_pipeline.defs.resources import Workspace
from pm_pipeline.markets.market import Market, MarketGroup
from pm_pipeline.warehouse.reconcile import (
    RECONCILIATION,
    RULES,
    Finding,
    Rule,
    Verdict,
    findings_to_table,
    reconcile_all,
)

COMPARED: Final = ("prices", "trades", "book_events", "resolutions", "onchain_fills")
"""The assets whose rows are compared."""

_SEVERITY: Final = {"warn": dg.AssetCheckSeverity.WARN, "error": dg.AssetCheckSeverity.ERROR}


@dg.asset(
    group_name="checks",
    kinds={"parquet", "duckdb"},
    partitions_def=MARKETS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=list(COMPARED),
    check_specs=[
        dg.AssetCheckSpec(rule.name, asset="reconciliation", description=rule.meaning) for rule in RULES
    ],
)
def reconciliation(
    context: dg.AssetExecutionContext, workspace: Workspace
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """What sources say of the same thing, compared market by market, both values side by side.

    A conflict is a warning or an error of the rule's check; `untold`: one side has nothing to compare.
    """
    lake, markets = workspace.lake, find_markets(workspace, context.partition_keys)
    groups = workspace.catalog.groups()
    now = time.time_ns()
    counts: Counter[tuple[str, Verdict]] = Counter()
    conflicts: dict[str, list[str]] = {rule.name: [] for rule in RULES}
    compared = reconcile_all(lake, ((market, members_of(market, groups)) for market in markets))
    for market, findings in counted(context.log, "reconciliation", compared, len(markets)):
        lake.write(RECONCILIATION, str(market.key), findings_to_table(str(market.key), findings, now))
        for finding in findings:
            counts[finding.rule, finding.verdict] += 1
            if finding.verdict is Verdict.CONFLICTS and len(conflicts[finding.rule]) < SHOWN:
                conflicts[finding.rule].append(in_words(market, finding))
    for rule in RULES:
        yield result_of(rule, conflicts[rule.name], counts)
    yield dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(counts.values()),
            "markets": len(markets),
            "verdicts": dg.MetadataValue.md(table_of(counts)),
            "world": workspace.settings.label,
        }
    )


def members_of(market: Market, groups: Mapping[str, MarketGroup]) -> tuple[str, ...]:
    """The markets whose YES prices must sum to a dollar with this one; none where that is not sure."""
    group = groups.get(market.group_key or "")
    if group is None or not (group.exclusive and group.exhaustive):
        return ()
    return tuple(str(key) for key in group.market_keys)


def in_words(market: Market, finding: Finding) -> str:
    """A conflict as a line: market, both sources, both values, and what was allowed."""
    values = [
        f"{name} {_shown(value)}"
        for name, value in (
            (finding.left_source, finding.left_value),
            (finding.right_source, finding.right_value),
        )
    ]
    allowed = "" if finding.allowed is None else f", allowed {_shown(finding.allowed)}"
    detail = f": {finding.detail}" if finding.detail else ""
    return f"- `{market.key}`: {' / '.join(values)}{allowed}{detail}"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:,.6g}"


def result_of(
    rule: Rule, conflicts: Sequence[str], counts: Mapping[tuple[str, Verdict], int]
) -> dg.AssetCheckResult:
    """What Dagster shows of one rule."""
    return dg.AssetCheckResult(
        check_name=rule.name,
        passed=not conflicts,
        severity=_SEVERITY[rule.severity],
        metadata={
            **{verdict.value: counts.get((rule.name, verdict), 0) for verdict in Verdict},
            "first": dg.MetadataValue.md("\n".join(conflicts) or "none"),
        },
    )


def table_of(counts: Mapping[tuple[str, Verdict], int]) -> str:
    """The verdicts by rule."""
    head = ["| rule | " + " | ".join(Verdict) + " |", "|---" * (1 + len(Verdict)) + "|"]
    rows = [
        f"| {rule.name} | " + " | ".join(str(counts.get((rule.name, v), 0)) for v in Verdict) + " |"
        for rule in RULES
    ]
    return "\n".join([*head, *rows])


RECONCILE: Final = dg.define_asset_job(
    "reconcile",
    selection=["reconciliation"],
    description="Compares what different sources say of the same markets.",
)
