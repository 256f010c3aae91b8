"""Where the recorded material lies, and the mark for tests that need it."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Recorded samples, golden numbers and contracts; beside the repository, never part of it."""

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared material is not beside this clone")
