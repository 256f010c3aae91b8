"""The proof by lineage: no signals asset can see how a market ended, neither directly nor through another."""

from typing import Final

import dagster as dg

from pm_pipeline.errors import PipelineError

SIGNALS: Final = "signals"
"""Last part of the key of every asset that holds what a strategy wants."""

HIDDEN: Final = dg.AssetKey("resolutions")
"""What a strategy must not see."""


class LineageError(PipelineError):
    """An asset graph in which a strategy could read the result of a market."""


def require_blind_signals(definitions: dg.Definitions) -> None:
    """Walk upstream from every signals asset. Raises :class:`LineageError` with the path to a resolution."""
    graph = definitions.resolve_asset_graph()
    upstream = {key: set(graph.get(key).parent_keys) for key in graph.get_all_asset_keys()}
    for key in sorted(upstream):
        if key.path[-1] == SIGNALS and (path := _path_to_hidden(key, upstream)):
            shown = " → ".join(step.to_user_string() for step in reversed(path))
            raise LineageError(
                f"{key.to_user_string()} could see how its market ended: {shown}. A strategy that does is "
                "worthless; let fills, metrics or reports depend on resolutions instead"
            )


def _path_to_hidden(
    start: dg.AssetKey, upstream: dict[dg.AssetKey, set[dg.AssetKey]]
) -> list[dg.AssetKey] | None:
    """The shortest way upstream from ``start`` to what is hidden, if there is one."""
    paths, seen = [[start]], {start}
    for path in paths:
        if path[-1] == HIDDEN:
            return path
        new = sorted(upstream[path[-1]] - seen)
        seen.update(new)
        paths += [[*path, parent] for parent in new]
    return None
