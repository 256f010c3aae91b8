"""What a person sees: Dagster's pages over a real webserver and daemon, and the report of a run.

Each test leaves a picture of its last page in the temporary folder of the session.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import pytest
from selenium.webdriver.common.by import By

from pm_pipeline.strategies import REGISTRY
from pm_pipeline_tests.processes import wait_for
from pm_pipeline_tests.ui.browser import Browser, browsing, needs_browser
from pm_pipeline_tests.ui.deployment import Deployment, deployed

pytestmark = [pytest.mark.browser, pytest.mark.slow, needs_browser]

MARKETS: Final = '{assetNodes(assetKeys: [{path: ["prices"]}]) {partitionKeys}}'
BACKFILLS: Final = """
{partitionBackfillsOrError {... on PartitionBackfills {results {status numPartitions runs {status}}}}}
"""
RUNS_OF: Final = """
query Runs($key: String!) {
  runsOrError(filter: {tags: [{key: "dagster/partition", value: $key}]}) {
    ... on Runs {results {runId}}
  }
}
"""
CHAIN: Final = ["catalog", "prices", "signals", "fills", "metrics", "portfolio"]
STRATEGIES: Final = REGISTRY.names()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A running Dagster that has carried out one backtest, started through its launchpad."""
    with deployed(tmp_path_factory.mktemp("deployment")) as deployment:
        deployment.run("backtest")
        yield deployment


@pytest.fixture(scope="module")
def window(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests."""
    with browsing(tmp_path_factory.mktemp("profile"), deployment.url) as window:
        yield window


@pytest.fixture(scope="module")
def markets(deployment: Deployment) -> list[str]:
    """The partitions that the backtest registered."""
    [prices] = deployment.ask(MARKETS)["assetNodes"]
    keys: list[str] = prices["partitionKeys"]
    return keys


@pytest.fixture
def page(window: Browser, deployment: Deployment, request: pytest.FixtureRequest) -> Iterator[Browser]:
    """The browser; what it showed last is kept."""
    yield window
    window.picture(deployment.folder / f"{request.node.name}.png")


def test_one_market_is_materialised_by_two_clicks(
    page: Browser, deployment: Deployment, markets: list[str]
) -> None:
    key = markets[0]
    page.open(f"/assets/prices?view=partitions&partition={key}")
    page.read("Latest materialization")
    page.click("Materialize")
    page.click("Launch 1 run")
    [run] = wait_for("the run", lambda: deployment.ask(RUNS_OF, key=key)["runsOrError"]["results"])
    deployment.wait_for_success(run["runId"])
    page.open(f"/assets/prices?view=partitions&partition={key}")
    page.read(run["runId"][:8], "SANDBOX SMALL_WORLD")


def test_one_click_asks_for_a_backfill_of_all_partitions(page: Browser, deployment: Deployment) -> None:
    # it comes early because the daemon looks for backfills only every 30 seconds; a later test sees the end
    page.open("/assets/prices")
    page.click("Materialize")
    page.click("All")
    page.read("Backfills all partitions in a single run")
    page.click("Launch backfill")
    wait_for("the backfill", lambda: backfills(deployment))


def test_the_lineage_leads_from_the_catalog_to_the_portfolio_and_resolutions_to_no_signal(
    page: Browser, deployment: Deployment
) -> None:
    page.open("/assets/favourite/portfolio?view=lineage&lineageScope=upstream&lineageDepth=9")
    page.read(*CHAIN, "resolutions")

    def places() -> dict[str, float] | None:
        nodes = page.driver.find_elements(By.CSS_SELECTOR, "[class*=AssetNode_assetName]")
        found = {node.text: node.rect["x"] for node in nodes}
        return found if {*CHAIN, "resolutions"} <= found.keys() else None

    found = page.wait("the nodes of the graph", places)
    assert sorted(CHAIN, key=found.__getitem__) == CHAIN  # the graph is drawn from left to right

    nodes = deployment.ask("{assetNodes {assetKey {path} dependencyKeys {path}}}")["assetNodes"]
    upstream = {
        "/".join(node["assetKey"]["path"]): {"/".join(k["path"]) for k in node["dependencyKeys"]}
        for node in nodes
    }
    assert upstream["favourite/signals"] == {"prices", "trades", "book_events", "onchain_fills"}
    assert "resolutions" in upstream["favourite/fills"]


def test_the_page_of_an_asset_shows_its_partitions(page: Browser, markets: list[str]) -> None:
    page.open("/assets/prices?view=partitions")
    page.read(f"Materialized ({len(markets)})", "Missing (0)", "Failed (0)", *markets)


def test_the_portfolio_shows_its_equity_curve_inline(page: Browser) -> None:
    page.open("/assets/favourite/portfolio")
    page.read("equity", "profit_usd", "stamps")
    [curve] = page.find("img[src^='data:image/svg+xml']")
    assert curve.is_displayed()
    assert curve.get_property("naturalWidth")  # it could be decoded; a broken image has no width


def test_the_comparison_shows_every_strategy(page: Browser) -> None:
    page.open("/assets/comparison")
    page.read("SANDBOX SMALL_WORLD", *STRATEGIES, "Sharpe")


def test_the_report_draws_its_plots_and_asks_nobody_for_anything(
    page: Browser, deployment: Deployment
) -> None:
    [report] = (deployment.folder / "data").glob("*/reports/*/report.html")
    assert page.requests()  # those of the pages before, which shows that requests are seen
    page.complaints()
    page.driver.get(report.as_uri())
    page.read("SANDBOX", *(REGISTRY.get(name).title for name in STRATEGIES))
    page.wait(
        "curves in every plot",
        lambda: all(drawn) if len(drawn := drawn_plots(page)) >= len(STRATEGIES) else None,
    )
    assert {address.partition(":")[0] for address in page.requests()} <= {"file", "data", "blob"}
    assert page.complaints() == []


def test_the_backfill_of_all_partitions_ends_as_one_run(
    page: Browser, deployment: Deployment, markets: list[str]
) -> None:
    [backfill] = wait_for(
        "the end of the backfill",
        lambda: [b for b in backfills(deployment) if b["status"] not in {"REQUESTED", "COMPLETING"}],
    )
    assert backfill == {
        "status": "COMPLETED_SUCCESS",
        "numPartitions": len(markets),
        "runs": [{"status": "SUCCESS"}],
    }
    page.open("/runs?view=backfills")
    page.read("Backfill", f"{len(markets)} partitions", "prices", "Success")


RULES = ("outcomes_sum_to_one", "prices_are_probabilities", "time_moves_forward")


@pytest.mark.parametrize(
    ("asset", "passed", "others", "shown"),
    [
        # as the backfill of all left them: fine history of one market has expired
        ("prices", RULES, ("coverage", "fine_history_is_saved"), "violations 1"),
        ("favourite/signals", ("no_lookahead",), (), "Passed"),
        ("warehouse", ("runs_are_published",), (), "Passed"),
    ],
)
def test_checks_are_shown_with_their_results(
    page: Browser, asset: str, passed: Sequence[str], others: Sequence[str], shown: str
) -> None:
    page.open(f"/assets/{asset}?view=checks")
    page.read(f"Checks ({len(passed) + len(others)})", "Evaluation result", shown, *others)
    page.wait(
        "that each succeeded",
        lambda: all(f"{name}\nSucceeded" in page.text() for name in passed) or None,
    )


def backfills(deployment: Deployment) -> list[dict[str, object]]:
    found: list[dict[str, object]] = deployment.ask(BACKFILLS)["partitionBackfillsOrError"]["results"]
    return found


def drawn_plots(page: Browser) -> list[bool]:
    """For each plot of the page whether Plotly has drawn a curve or a bar of some size in it."""
    return [
        any(shape.rect["width"] > 1 for shape in plot.find_elements(By.CSS_SELECTOR, ".trace path"))
        for plot in page.driver.find_elements(By.CSS_SELECTOR, ".js-plotly-plot")
    ]
