"""The sandbox on a loopback port, and which world it serves."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import uvicorn
from starlette.applications import Starlette

from pm_pipeline.errors import PipelineError, UsageError
from pm_pipeline.sources.sandbox.generator import generate_world
from pm_pipeline.sources.sandbox.world import World


def load_world(spec: str | None = None) -> World:
    """The generated world, or what ``module:function`` returns (the setting ``PM_SANDBOX_WORLD``).

    Raises
    ------
    UsageError
        when the text does not name a function that returns a :class:`World`.
    """
    if not spec:
        return generate_world()
    module_name, _, function = spec.partition(":")
    if not module_name or not function:
        raise UsageError(f"{spec!r} does not name a world; write module:function, for example my_worlds:load")
    try:
        maker = getattr(import_module(module_name), function)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"the world {spec!r} cannot be loaded: {error}") from error
    world = maker()
    if not isinstance(world, World):
        raise UsageError(f"{spec} returned {type(world).__name__}, not a World")
    return world


def _server(app: Starlette, host: str, port: int) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(app, host=host, port=port, log_level="error", access_log=False, lifespan="off")
    )


def serve(app: Starlette, host: str = "127.0.0.1", port: int = 8765) -> None:
    """Serve until interrupted. Prints nothing."""
    _server(app, host, port).run()


@contextmanager
def running_server(app: Starlette, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve on a free port while the context lasts; yields the base address, ``http://127.0.0.1:port``.

    Raises
    ------
    PipelineError
        when the server does not come up.
    """
    server = _server(app, host, 0)
    ready = threading.Event()
    startup = server.startup

    async def announced(sockets: list[object] | None = None) -> None:
        await startup(sockets)  # type: ignore[arg-type]
        ready.set()

    server.startup = announced  # type: ignore[assignment]
    thread = threading.Thread(target=server.run, name="sandbox", daemon=True)
    thread.start()
    try:
        if not ready.wait(timeout=30) or not server.started:
            raise PipelineError(f"the sandbox could not listen on {host}; is the loopback interface up?")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
