import json
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

from pm_pipeline.markets.units import MICRO
from pm_pipeline.reports import RunReport, Skipped, StrategyResult, write_report
from pm_pipeline.reports.page import SKIPPED_SHOWN, render
from pm_pipeline.reports.run import WORLDS
from pm_pipeline.research import METRICS, Figure
from pm_pipeline.warehouse.schema import table
from pm_pipeline_tests.reports import sample

LOADS = {"src", "href", "srcset", "action", "data", "poster", "formaction", "xlink:href"}
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """What a browser would see: text outside scripts, what is loaded, and whether tags balance."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self.plots: dict[str, dict[str, object]] = {}
        self.scripts = 0
        self.policy = ""
        self._plot = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loads += [str(v) for k, v in attrs if k in LOADS]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(given["content"])
        if tag == "script":
            self.scripts += given.get("type") != "application/json"
            self._plot = str(given.get("id", ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside == "script" and self._plot:
            self.plots[self._plot] = json.loads(data)
        elif inside not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def result() -> StrategyResult:
    return sample.strategy("value", "Prediction value")


@pytest.fixture(scope="module")
def page(result: StrategyResult) -> Page:
    return Page(render(sample.run(result, with_prices=True)))


def test_the_page_is_whole_and_loads_nothing(page: Page) -> None:
    assert page.open == []
    assert page.loads == []
    assert page.policy.startswith("default-src 'none'")
    assert "http" not in page.policy
    assert page.scripts == 2


def test_the_page_shows_world_figures_bands_and_reasons(page: Page, result: StrategyResult) -> None:
    assert page.text.count("SANDBOX") >= 2
    assert WORLDS["SANDBOX"] in page.text
    assert "What the numbers mean" in page.text
    assert all(metric.title in page.text for metric in METRICS.values())
    assert "the Sharpe ratios of the trials are not known" in page.text
    assert "no book and no trade before the close" in page.text
    assert "no_quote 1 · short_history 1" in page.text
    trades = result.figure("total_pnl").value
    assert f"${trades:,.2f}" in page.text


@pytest.mark.parametrize("world", WORLDS)
def test_each_world_has_its_badge(world: str) -> None:
    text = render(replace(sample.run(), world=world))
    assert f'<span class="badge {world}">{world}</span>' in text
    assert f"<title>{world} · backtest r1</title>" in text


def test_the_figures_hold_what_they_say(page: Page, result: StrategyResult) -> None:
    equity, pnl, reliability, prices = page.plots.values()
    names = [[trace.get("name") for trace in plot["data"]] for plot in (equity, reliability, prices)]  # type: ignore[attr-defined]
    assert names == [
        ["pessimistic", "optimistic", "base", "drawdown"],
        ["perfect", "market", "strategy"],
        ["mid", "buy", "sell"],
    ]
    base = result.trips.filter(pa.compute.equal(result.trips["scenario"], "base"))
    labels = pnl["data"][0]["customdata"]  # type: ignore[index]
    assert labels[0].endswith(" others")
    assert len(labels) == 13
    assert base.num_rows == 120


def test_text_from_outside_cannot_become_markup(result: StrategyResult) -> None:
    evil = "kalshi:</script><script>alert(1)</script>"
    trips = result.trips.set_column(
        result.trips.schema.get_field_index("group_key"),
        "group_key",
        pa.array([evil] * result.trips.num_rows),
    )
    hostile = replace(result, title="<b>bold</b>", trips=trips, skipped=(Skipped(evil, evil, evil),))
    page = Page(render(replace(sample.run(hostile), config={"x": evil})))
    assert page.open == []
    assert page.scripts == 2
    assert "<b>bold</b>" in page.text
    assert page.plots["plot-2-value"]["data"][0]["customdata"] == [evil]  # type: ignore[index]


def test_a_run_without_anything_is_still_a_page() -> None:
    assert "The run has no strategy." in Page(render(sample.run())).text
    empty = StrategyResult(
        "none",
        "Idle",
        {"base": {"sharpe": Figure(float("nan"), "needs at least 2 returns")}},
        table("backtest.portfolio_equity").arrow.empty_table(),
        table("backtest.trips").arrow.empty_table(),
        table("backtest.fills").arrow.empty_table(),
    )
    page = Page(render(sample.run(empty)))
    assert page.plots == {}
    assert "(needs at least 2 returns)" in page.text
    assert "None: every market was tested and nothing was refused." in page.text


def test_skipped_markets_beyond_the_limit_are_counted(result: StrategyResult) -> None:
    many = tuple(Skipped(f"kalshi:{i}", "no_quote", "") for i in range(SKIPPED_SHOWN + 7))
    text = Page(render(sample.run(replace(result, skipped=many)))).text
    assert "and 7 more in backtest.portfolio_rejections" in text
    assert f"no_quote {SKIPPED_SHOWN + 7}" in text


def test_prices_of_other_markets_draw_no_trades(result: StrategyResult) -> None:
    run = sample.run(result, with_prices=True)
    assert run.prices is not None
    other = run.prices.set_column(0, "market_key", pa.array(["kalshi:other"] * run.prices.num_rows))
    assert "Trades on" not in Page(render(replace(run, prices=other))).text


@pytest.fixture(scope="module")
def long_run() -> RunReport:
    first = sample.strategy("value", "Prediction value", count=800, points=100_000)
    return sample.run(first, replace(first, name="second"), replace(first, name="third"))


def test_the_page_stays_below_eight_megabytes_at_a_hundred_thousand_points(
    long_run: RunReport, tmp_path: Path
) -> None:
    paths = write_report(long_run, tmp_path)
    assert paths.page.stat().st_size < 8_000_000
    assert paths.image.stat().st_size < 2_000_000
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "equity.png",
        "report.html",
        "trades.csv",
        "trades.json",
    ]


def test_the_drawn_curve_has_the_extremes_of_the_whole_one(long_run: RunReport) -> None:
    from pm_pipeline.reports.figures import equity_figure

    first = long_run.strategies[0]
    base = (
        first.equity.filter(pa.compute.equal(first.equity["scenario"], "base"))["equity"].to_numpy() / MICRO
    )
    drawn = next(trace for trace in equity_figure(first, points=500).data if trace.name == "base").y
    assert len(drawn) < 800
    assert (min(drawn), max(drawn), drawn[0], drawn[-1]) == (base.min(), base.max(), base[0], base[-1])


CHROMIUM = shutil.which("chromium")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_draws_every_figure_offline(result: StrategyResult, tmp_path: Path) -> None:
    paths = write_report(sample.run(result, with_prices=True), tmp_path / "report")
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu",
            "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=8000", "--dump-dom", paths.page.as_uri(),
        ],
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.count('class="main-svg"') >= 2 * 4
