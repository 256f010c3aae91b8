"""Dagster's webserver and daemon over the small world, as `bt ui` or the containers run them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from pm_pipeline_tests.processes import BIN, free_port, running, scratch_environment, wait_for

LAUNCH: Final = """
mutation Launch($job: String!) {
  launchRun(executionParams: {
    selector: {
      repositoryLocationName: "pm_pipeline", repositoryName: "__repository__", jobName: $job
    },
    runConfigData: {}
  }) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
RUN: Final = "query Run($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A running Dagster: where it answers, and where its files lie."""

    url: str
    folder: Path

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """The data that GraphQL answers."""
        answer = httpx.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60
        ).json()
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    def run(self, job: str) -> str:
        """Launch a job as the launchpad does, and wait for its success; the id of the run."""
        launched = self.ask(LAUNCH, job=job)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id: str = launched["run"]["runId"]
        self.wait_for_success(run_id)
        return run_id

    def wait_for_success(self, run_id: str) -> None:
        """Wait for the end of a run; anything but success is a failure here."""

        def end() -> str | None:
            status: str = self.ask(RUN, id=run_id)["runOrError"]["status"]
            return status if status in {"SUCCESS", "FAILURE", "CANCELED"} else None

        assert wait_for(f"run {run_id}", end) == "SUCCESS", self.logs()

    def logs(self) -> str:
        """What the processes have said so far."""
        return "\n".join(path.read_text(errors="replace")[-4000:] for path in self.folder.glob("*.log"))


@contextmanager
def deployed(folder: Path) -> Iterator[Deployment]:
    """Webserver and daemon with an empty home, ready to be asked."""
    environment = scratch_environment(folder)
    port = free_port()
    there = Deployment(f"http://127.0.0.1:{port}", folder)
    workspace = ["-w", "workspace.yaml"]
    server = [str(BIN / "dagster-webserver"), "-h", "127.0.0.1", "-p", str(port), *workspace]
    with running(server, environment, folder / "webserver.log"):
        # The daemon follows once the webserver has made the database: two cannot make it at once.
        wait_for("the webserver", lambda: answers(f"{there.url}/server_info"))
        daemon = [str(BIN / "dagster-daemon"), "run", *workspace]
        with running(daemon, environment, folder / "daemon.log"):
            yield there


def answers(url: str) -> bool:
    """Whether somebody answers there."""
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False
