"""The sandbox on a loopback port, and which world it serves."""

import socket
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
        when the address cannot be bound.
    """
    listener = socket.socket()
    try:
        listener.bind((host, 0))
    except OSError as error:
        listener.close()
        raise PipelineError(f"the sandbox cannot listen on {host}: {error}") from error
    # Listening before the server runs: whoever connects at once waits in the queue instead of failing.
    listener.listen()
    port = listener.getsockname()[1]
    server = _server(app, host, port)
    thread = threading.Thread(target=server.run, args=([listener],), name="sandbox", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()
