"""What docs/polymarket.md tells those who run the pipeline is what the code does."""

import re

from pm_pipeline.sources.connect import HOSTS
from pm_pipeline.sources.health import RETIRED
from pm_pipeline.sources.http import RESTARTS
from pm_pipeline_tests.engine.builders import DOCS, doc_table


def test_the_limits_are_those_of_the_page() -> None:
    told = {
        row["host"]: (
            float(row["all together"]),
            {path: float(rate) for path, rate in re.findall(r"`([^`]+)` (\d+)", f"`{row['slower']}")},
        )
        for row in doc_table("polymarket.md", "Limits")
    }
    used = {name: (host.rate_per_s, dict(host.endpoints)) for name, host in HOSTS.items()}
    assert told == {name: used[name] for name in told}
    assert set(used) - set(told) == {"kalshi"}


def test_what_is_gone_is_what_the_doctor_names() -> None:
    told = {
        row["gone"].split(":")[0]: row["since"] for row in doc_table("polymarket.md", "Sources that are gone")
    }
    assert told == {each.source: each.since for each in RETIRED}


def test_a_restart_is_waited_for_as_long_as_the_page_says() -> None:
    assert f"asked again every 10 seconds, {RESTARTS} times" in (DOCS / "polymarket.md").read_text("utf-8")
