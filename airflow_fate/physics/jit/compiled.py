"""How is the kernel compiled? By Numba, once per machine and version.

The machine code is kept beside the sources, or in a home folder where those belong to somebody else.

Numba looks only at a function's own file to see whether its machine code is old, not at the functions that it calls. So
the code is kept under a digest of all sources that are compiled together. Reference counting is off: compiled
functions allocate nothing, and counting references to the world's arrays took nine tenths of the time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba

_log = logging.getLogger(__name__)
_numba: Any = numba
"""Its stubs know neither its settings nor the option that turns reference counting off."""

P = ParamSpec("P")
R = TypeVar("R")


_PACKAGE = Path(__file__).parents[2]
_COMPILED = ("physics", "planner/forecast", "planner/dispatch")
"""Folders that are compiled together."""


def digest(package: Path = _PACKAGE) -> str:
    """Of all sources that are compiled together, by their paths: two of them may well have one name."""
    sources = blake2b(digest_size=8)
    for file in sorted(file for folder in _COMPILED for file in (package / folder).rglob("*.py")):
        sources.update(f"{file.relative_to(package).as_posix()}\0{file.stat().st_size}\0".encode())
        sources.update(file.read_bytes())
    return sources.hexdigest()


def cache_folder(beside: Path, home: Path, name: str) -> Path | None:
    """Where machine code of this digest is kept: beside the sources, or in a home folder, or nowhere.

    :param beside: folder that may belong to somebody else, as in an image; what lies there is taken along.
    :param name: the digest.
    """
    if _may_write(beside / name):
        return beside / name
    if not _may_write(home / name):
        return None
    for file in (beside / name).rglob("*.nb[ic]"):
        copy = home / name / file.relative_to(beside / name)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    return home / name


def _may_write(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _home() -> Path:
    try:
        return Path.home() / ".cache" / "airflow-fate"
    except RuntimeError:
        # Whoever this is has none.
        return Path("/nonexistent")


_CACHE = cache_folder(Path(__file__).parent / "__pycache__", _home(), digest())
if _CACHE is None:
    _log.warning(
        "The planner is compiled anew in every process, which takes a minute or two: neither the package's folder nor "
        "a home folder can be written to."
    )


def is_compiled() -> bool:
    """Whether machine code of these sources lies here."""
    return _CACHE is not None and any(_CACHE.rglob("*.nbi"))


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at the first call. With ``NUMBA_DISABLE_JIT=1`` the same source runs as plain Python.

    A function whose name begins with an underscore can be called by compiled code alone: taking a world of some fifty
    arrays apart for it would be compiled in vain.
    """
    settings = _numba.core.config
    chosen = settings.CACHE_DIR
    settings.CACHE_DIR = chosen or str(_CACHE or "")
    try:
        options = {"cache": bool(chosen or _CACHE), "nogil": True, "_nrt": False, "no_cfunc_wrapper": True}
        dispatcher: Any = _numba.njit(**options, no_cpython_wrapper=function.__name__.startswith("_"))(function)
    finally:
        settings.CACHE_DIR = chosen
    if isinstance(dispatcher, _numba.core.dispatcher.Dispatcher):
        _take_numbers_alike(dispatcher)
    return cast(Callable[P, R], dispatcher)


def _take_numbers_alike(dispatcher: Any) -> None:
    """Without this, Numba compiles a function, and all that it calls, anew for each constant among its arguments."""
    template = dispatcher.get_call_template

    def for_any(args: Sequence[Any], kws: dict[str, Any]) -> Any:
        return template(tuple(_numba.types.unliteral(kind) for kind in args), kws)

    dispatcher.get_call_template = for_any
