"""How is the kernel compiled? By Numba, once per machine and version; the machine code is kept beside the sources.

Numba looks only at a function's own file to see whether its machine code is old, not at the functions that it calls. So
the code is kept under a digest of all sources that are compiled together. Reference counting is off: compiled
functions allocate nothing, and counting references to the world's arrays took nine tenths of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba

_numba: Any = numba
"""Its stubs know neither its settings nor the option that turns reference counting off."""

P = ParamSpec("P")
R = TypeVar("R")


_VALUES = ("bundle.py", "events.py", "rule.py", "world.py")
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
    """Compile at the first call. With ``NUMBA_DISABLE_JIT=1`` the same source runs as plain Python.

    A function whose name begins with an underscore can be called by compiled code alone: taking a world of some fifty
    arrays apart for it would be compiled in vain.
    """
    settings = _numba.core.config
    chosen = settings.CACHE_DIR
    settings.CACHE_DIR = chosen or str(_CACHE)
    try:
        options = {"cache": True, "nogil": True, "_nrt": False, "no_cfunc_wrapper": True}
        made: Any = _numba.njit(**options, no_cpython_wrapper=function.__name__.startswith("_"))(function)
    finally:
        settings.CACHE_DIR = chosen
    if isinstance(made, _numba.core.dispatcher.Dispatcher):
        _take_numbers_alike(made)
    return cast(Callable[P, R], made)


def _take_numbers_alike(made: Any) -> None:
    """Without this, Numba compiles a function, and all that it calls, anew for each constant among its arguments."""
    template = made.get_call_template

    def for_any(args: Sequence[Any], kws: dict[str, Any]) -> Any:
        return template(tuple(_numba.types.unliteral(one) for one in args), kws)

    made.get_call_template = for_any
