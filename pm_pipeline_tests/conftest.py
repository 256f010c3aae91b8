"""What holds for every test."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from pm_pipeline_tests.workdir import (  # noqa: F401 - fixtures
    backtested,
    backtested_data,
    empty,
    faulty,
    fetched,
    fetched_data,
    seen,
    user_strategy,
)

# The suite draws the same examples at each run, so that it judges a change and not its luck.
# `make fuzz` draws new ones, and keeps in .hypothesis what they found.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, print_blob=True)
settings.load_profile("suite")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: many tests wait, for a retry, a server or a browser."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes long by itself, so that several workers end at the same time.

    These tests move much data through code that others cover, and tracing would triple their time.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("no_cov"):
            item.add_marker("no_cover")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Nor are their fixtures traced, of which pytest-cov does not think."""
    tracer = getattr(item.config.pluginmanager.get_plugin("_cov"), "cov_controller", None)
    if tracer is None or not item.get_closest_marker("no_cover"):
        yield
        return
    tracer.pause()
    try:
        yield
    finally:
        tracer.resume()
