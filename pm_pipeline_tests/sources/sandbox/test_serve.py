import httpx
import pytest
import uvicorn

from pm_pipeline.errors import PipelineError, UsageError
from pm_pipeline.sources.sandbox import World, build_app, generate_world, load_world, running_server, serve
from pm_pipeline.sources.sandbox.plans import fifteen_minute_event


def tiny_world() -> World:
    return generate_world(1, [fifteen_minute_event("2026-06-28T16:15:00Z", 70_000.0)])


def no_world() -> str:
    return "nothing"


def test_the_sandbox_listens_on_a_free_port_until_the_context_ends(world: World) -> None:
    with running_server(build_app(world)) as base:
        response = httpx.get(f"{base}/kalshi/trade-api/v2/exchange/status", trust_env=False)
        assert response.json()["trading_active"] is True
        assert response.headers["x-sandbox-now"] == str(world.now)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{base}/data/v2/status", trust_env=False)


def test_a_host_that_cannot_be_bound_is_reported(world: World) -> None:
    with (
        pytest.raises(PipelineError, match=r"cannot listen on 203\.0\.113\.1"),
        running_server(build_app(world), "203.0.113.1"),
    ):
        raise AssertionError("unreachable")


def test_serve_runs_the_application_on_the_given_port(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(
        uvicorn.Server, "run", lambda self: asked.append((self.config.host, self.config.port))
    )
    serve(build_app(world), port=9999)
    assert asked == [("127.0.0.1", 9999)]
    assert capsys.readouterr().out == ""


def test_without_a_name_the_generated_world_is_served() -> None:
    assert list(load_world(None).markets) == list(generate_world().markets)


def test_a_world_is_loaded_by_module_and_function() -> None:
    assert len(load_world(f"{__name__}:tiny_world").markets) == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing", "write module:function"),
        ("no_such_module:load", "cannot be loaded"),
        (f"{__name__}:missing", "cannot be loaded"),
        (f"{__name__}:no_world", "returned str, not a World"),
    ],
)
def test_a_wrong_name_is_explained(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_world(spec)
