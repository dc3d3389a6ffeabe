"""How is the kernel compiled? By Numba, once per machine and version; the machine code is kept beside the sources.

Numba looks only at a function's own file to see whether its machine code is old, not at the functions that it calls. So
the code is kept under a digest of all sources that are compiled together. Reference counting is off: compiled
functions allocate nothing, and counting references to the world's arrays took nine tenths of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba

_numba: Any = numba
"""Its stubs know neither its settings nor the option that turns reference counting off."""

P = ParamSpec("P")
R = TypeVar("R")


_VALUES = ("events.py", "rule.py", "world.py")
"""What compiled functions read and does not hold any itself."""


def _digest() -> str:
    package = Path(__file__).parents[2]
    files = sorted([*package.glob("physics/kernel/*.py"), *package.glob("planner/lists/*.py")])
    sources = {file.name: file.read_bytes() for file in files}
    together = [text for name, text in sources.items() if name in _VALUES or b"@compiled" in text]
    return blake2b(b"".join(together), digest_size=8).hexdigest()


_CACHE = Path(__file__).parent / "__pycache__" / _digest()


def is_compiled() -> bool:
    """Whether machine code of these sources lies here."""
    return any(_CACHE.rglob("*.nbi"))


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at the first call. With ``NUMBA_DISABLE_JIT=1`` the same source runs as plain Python."""
    settings = _numba.core.config
    chosen = settings.CACHE_DIR
    settings.CACHE_DIR = chosen or str(_CACHE)
    try:
        made: Callable[P, R] = _numba.njit(cache=True, nogil=True, _nrt=False)(function)
    finally:
        settings.CACHE_DIR = chosen
    return made
