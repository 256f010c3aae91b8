"""Compiling the packages of machine code once, and keeping it where the user may write.

Numba looks only at the file of a compiled function, not at those it calls, to see whether its cache is
stale. So the folder's name holds a digest of all sources of the package: other sources, other folder.
"""

import logging
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

import numba
import numpy as np
from numba import types

F = TypeVar("F", bound=Callable[..., Any])

_LOG: Final = logging.getLogger(__name__)
_HERE: Final = Path(__file__)


@cache
def cache_folder(package: Path = _HERE.parent) -> Path:
    """Where the machine code of a package is kept, of this one if none is named: in ``NUMBA_CACHE_DIR``, else
    in the user's cache folder.

    Without a writable home (a locked-down container) it is the system's folder for temporary files.
    """
    digest = sha256(f"{version('numba')} {platform.python_version()} {platform.machine()}".encode())
    for source in sorted({*package.glob("*.py"), _HERE}):
        digest.update(source.read_bytes())
    return _root() / f"{package.name}-{digest.hexdigest()[:16]}"


def step_folder(function: Callable[..., Any]) -> Path:
    """Where the machine code of a strategy's own function is kept: by the text of its file."""
    file = Path(function.__code__.co_filename)
    text = file.read_bytes() if file.is_file() else function.__code__.co_code
    return _root() / f"step-{sha256(text + version('numba').encode()).hexdigest()[:16]}"


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


@dataclass(frozen=True, slots=True)
class Package:
    """A package whose functions are compiled. They own no memory, they only work in arrays that they are
    given, so references are not counted.

    ``error_model`` says whether a division by zero raises (``python``) or is never checked (``numpy``).
    """

    path: Path
    error_model: Literal["python", "numpy"] = "python"

    def jit(self, function: F) -> F:
        """Mark a function that only compiled code calls. It is compiled with its caller."""
        return self._marked(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)

    def inlined(self, function: F) -> F:
        """Mark a function whose code is put where it is called: a call would hand over every part of every
        array of its arguments, which takes longer than most functions do.
        """
        return self._marked(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)

    def entry(self, function: F) -> F:
        """Mark a function that Python calls; :func:`compile_entry` compiles it, for its annotated types."""
        return self._marked(function, no_cfunc_wrapper=True)

    def _marked(self, function: F, **options: bool) -> F:
        settings: Any = numba.config
        compiler: Any = numba.njit
        before = settings.CACHE_DIR
        settings.CACHE_DIR = str(cache_folder(self.path))  # read when a function is decorated, so ours alone
        try:
            made = compiler(cache=True, nogil=True, error_model=self.error_model, _nrt=False, **options)
            marked: F = made(function)
        finally:
            settings.CACHE_DIR = before
        return marked


_KERNEL: Final = Package(_HERE.parent)
entry = _KERNEL.entry
jit = _KERNEL.inlined


def compile_entry(function: Any, say: Callable[[str], None] | None = None) -> None:
    """Compile a function that Python calls, or load it; other types are an error from then on.

    ``say`` is told before something is compiled that takes seconds; by default the log is.
    """
    if getattr(function, "signatures", True):
        return  # done before; or NUMBA_DISABLE_JIT: plain Python, for a debugger
    if not _loaded(function):
        tell = say or _LOG.warning
        folder = Path(function.stats.cache_path).parent
        tell(f"compiling {function.__name__} for this machine, once; it is kept in {folder}")
        _compile_callees(function)
        _compile(function)
    function.disable_compile()


def _loaded(function: Any) -> bool:
    """Take a function's machine code from its file.

    ``compile`` would first make numba ready to compile: it imports all that could be compiled, scipy's linear
    algebra too, and needs ten times as long and 50 MB for it. Code that owns no memory runs without.
    """
    load = getattr(getattr(function, "_cache", None), "_load_overload", None)
    if load is None:
        return False  # another numba; ``compile`` finds the file itself
    found = load(signature_of(function.py_func), function.targetctx)
    if found is None:
        return False
    function.targetctx.insert_user_function(found.entry_point, found.fndesc, [found.library])
    function.add_overload(found)
    return True


def _compile_callees(function: Any) -> None:
    """Compile what a function calls before it: left to numba, each would be compiled for every literal that
    somebody passes to it.
    """
    for name in function.py_func.__code__.co_names:
        callee = function.py_func.__globals__.get(name)
        if not getattr(callee, "signatures", True):
            _compile_callees(callee)
            _compile(callee)
            callee.disable_compile()


def _compile(function: Any) -> None:
    function.compile(signature_of(function.py_func))


def signature_of(function: Callable[..., Any]) -> tuple[Any, ...]:
    """The numba types of a function's annotations."""
    hints = get_type_hints(function)
    hints.pop("return", None)
    return tuple(_type_of(hint) for hint in hints.values())


def _type_of(hint: Any) -> Any:
    if hasattr(hint, "numba_type"):
        return hint.numba_type()
    if get_origin(hint) is tuple:
        pair: Any = types.UniTuple
        return pair(_TYPES[get_args(hint)[0]], len(get_args(hint)))
    return _TYPES[get_args(hint)[1] if get_args(hint) else hint]


_TYPES: Final[dict[Any, Any]] = {
    int: types.int64,
    float: types.float64,
    bool: types.boolean,
    np.dtype[np.int64]: types.Array(types.int64, 1, "C"),
    np.dtype[np.int32]: types.Array(types.int32, 1, "C"),
    np.dtype[np.uint16]: types.Array(types.uint16, 1, "C"),
    np.dtype[np.uint8]: types.Array(types.uint8, 1, "C"),
    np.dtype[np.bool_]: types.Array(types.boolean, 1, "C"),
    np.dtype[np.float64]: types.Array(types.float64, 1, "C"),
}
