"""Compiling the kernel once, and keeping the machine code where the user may write.

Numba looks only at the file of a compiled function, not at those it calls, to see whether its cache is
stale. So the folder's name holds a digest of all sources of this package: other sources, other folder.
"""

import logging
import os
import platform
import tempfile
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

import numba
import numpy as np
import numpy.typing as npt
from numba import types

F = TypeVar("F", bound=Callable[..., Any])

_LOG: Final = logging.getLogger(__name__)


@cache
def cache_folder() -> Path:
    """Where the machine code is kept: in ``NUMBA_CACHE_DIR``, else in the user's cache folder.

    Without a writable home (a locked-down container) it is the system's folder for temporary files.
    """
    digest = sha256(f"{version('numba')} {platform.python_version()} {platform.machine()}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return _root() / f"kernel-{digest.hexdigest()[:16]}"


def _root() -> Path:
    stated = os.environ.get("NUMBA_CACHE_DIR")
    if stated:
        return Path(stated)
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "pm_pipeline"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir()) / "pm_pipeline"
    return home if os.access(home, os.W_OK) else Path(tempfile.gettempdir()) / "pm_pipeline"


def jit(function: F) -> F:
    """Mark a function that only the kernel calls. It is compiled with its caller, for its annotated types."""
    return _marked(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def entry(function: F) -> F:
    """Mark a function that Python calls; :func:`compile_entry` compiles it, for its annotated types."""
    return _marked(function, no_cfunc_wrapper=True)


def _marked(function: F, **options: bool) -> F:
    """The kernel owns no memory, it only works in arrays that it is given, so references are not counted."""
    settings: Any = numba.config
    compiler: Any = numba.njit
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(cache_folder())  # read when a function is decorated, so ours alone
    try:
        marked: F = compiler(cache=True, nogil=True, _nrt=False, **options)(function)
    finally:
        settings.CACHE_DIR = before
    return marked


def compile_entry(function: Any, say: Callable[[str], None] | None = None) -> None:
    """Compile a function that Python calls, or load it; other types are an error from then on.

    ``say`` is told before something is compiled that takes seconds; by default the log is.
    """
    if getattr(function, "signatures", True):
        return  # done before; or NUMBA_DISABLE_JIT: plain Python, for a debugger
    if not any(cache_folder().rglob(f"*.{function.__name__}-*.nbi")):
        tell = say or _LOG.warning
        tell(f"compiling {function.__name__} for this machine, once; it is kept in {cache_folder()}")
        _compile_callees(function)
    _compile(function)


def _compile_callees(function: Any) -> None:
    """Compile what a function calls before it: left to numba, each would be compiled for every literal that
    somebody passes to it.
    """
    for name in function.py_func.__code__.co_names:
        callee = function.py_func.__globals__.get(name)
        if not getattr(callee, "signatures", True):
            _compile_callees(callee)
            _compile(callee)


def _compile(function: Any) -> None:
    function.compile(signature_of(function.py_func))
    function.disable_compile()


def signature_of(function: Callable[..., Any]) -> tuple[Any, ...]:
    """The numba types of a function's annotations."""
    hints = get_type_hints(function)
    hints.pop("return", None)
    return tuple(h.numba_type() if hasattr(h, "numba_type") else _TYPES[h] for h in hints.values())


_TYPES: Final[dict[Any, Any]] = {
    int: types.int64,
    float: types.float64,
    bool: types.boolean,
    npt.NDArray[np.int64]: types.Array(types.int64, 1, "C"),
    npt.NDArray[np.uint16]: types.Array(types.uint16, 1, "C"),
    npt.NDArray[np.bool_]: types.Array(types.boolean, 1, "C"),
}
