from collections.abc import Sequence

import dagster as dg
import pytest

from pm_pipeline import definitions
from pm_pipeline.defs.lineage import LineageError, require_blind_signals


def graph_of(edges: Sequence[tuple[str, str]]) -> dg.Definitions:
    """Assets from edges upstream → downstream, as ``a/b`` keys."""
    names = sorted({name for edge in edges for name in edge})

    def build(name: str) -> dg.AssetsDefinition:
        @dg.asset(
            key=dg.AssetKey(name.split("/")),
            deps=[dg.AssetKey(up.split("/")) for up, down in edges if down == name],
        )
        def asset() -> None: ...

        return asset

    return dg.Definitions(assets=[build(name) for name in names])


def test_no_signals_asset_of_the_code_location_can_see_a_resolution() -> None:
    graph = definitions.defs.resolve_asset_graph()
    signals = [key for key in graph.get_all_asset_keys() if key.path[-1] == "signals"]
    assert sorted(key.path[0] for key in signals) == ["favourite", "mean_reversion", "momentum"]
    for key in signals:
        upstream: set[dg.AssetKey] = set()
        pending = [key]
        while pending:
            pending += (new := graph.get(pending.pop()).parent_keys - upstream)
            upstream |= new
        assert {k.to_user_string() for k in upstream} == {
            *("prices", "trades", "book_events", "onchain_fills", "catalog"),
        }
    require_blind_signals(definitions.defs)


def test_settlement_does_see_the_resolutions() -> None:
    graph = definitions.defs.resolve_asset_graph()
    assert dg.AssetKey("resolutions") in graph.get(dg.AssetKey(["favourite", "fills"])).parent_keys


@pytest.mark.parametrize(
    ("edges", "path"),
    [
        ([("resolutions", "x/signals")], "resolutions → x/signals"),
        (
            [
                ("resolutions", "features"),
                ("features", "better"),
                ("better", "x/signals"),
                ("prices", "better"),
            ],
            "resolutions → features → better → x/signals",
        ),
        (
            [("resolutions", "reconciliation"), ("reconciliation", "x/signals")],
            "resolutions → reconciliation → x/signals",
        ),
        (
            [("x/signals", "x/fills"), ("resolutions", "x/fills"), ("x/fills", "y/signals")],
            "resolutions → x/fills → y/signals",
        ),
    ],
)
def test_a_signals_asset_that_could_see_a_resolution_is_caught(
    edges: list[tuple[str, str]], path: str
) -> None:
    with pytest.raises(LineageError, match=f"could see how its market ended: {path}. "):
        require_blind_signals(graph_of(edges))


def test_a_resolution_downstream_of_signals_is_no_matter() -> None:
    require_blind_signals(graph_of([("prices", "x/signals"), ("x/signals", "resolutions")]))


def test_the_code_location_refuses_such_a_graph_when_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    @dg.asset(name="catalog", deps=["resolutions"])
    def knowing_catalog() -> None: ...

    knowing = [
        dg.AssetSpec(name) if name != "prices" else dg.AssetSpec(name, deps=["resolutions"])
        for name in ("resolutions", "prices", "trades", "book_events", "candles")
    ]
    monkeypatch.setattr(definitions, "build_assets", lambda: knowing)
    with pytest.raises(LineageError, match="resolutions → prices → favourite/signals"):
        definitions.build()
