"""How the functions of this package are marked; they divide by nothing that may be zero."""

from pathlib import Path
from typing import Final

from pm_pipeline.engine.kernel.cache import Package

_POINTS: Final = Package(Path(__file__).parent, error_model="numpy")
entry, inlined, jit = _POINTS.entry, _POINTS.inlined, _POINTS.jit
