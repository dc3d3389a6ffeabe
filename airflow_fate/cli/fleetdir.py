"""Where does a local fleet live, and does it run? Its folder, its key, and the lock that its supervisor holds."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DIR_VARIABLE = "FATE_FLEET_DIR"
_LOCK_FILE = "supervisor.lock"


class FleetDirError(Exception):
    """The folder can't be used; says what to do."""


def default_folder(name: str) -> Path:
    """``$FATE_FLEET_DIR``, or a folder of the fleet's name under ``~/.fate/fleet``."""
    return Path(os.environ.get(DIR_VARIABLE) or Path.home() / ".fate" / "fleet" / name)


def only_folder() -> Path:
    """``$FATE_FLEET_DIR``, or the one fleet that is known here.

    :raises FleetDirError: when there is none, or more than one.
    """
    if os.environ.get(DIR_VARIABLE):
        return Path(os.environ[DIR_VARIABLE])
    found = sorted(path.parent for path in (Path.home() / ".fate" / "fleet").glob("*/fleet.json"))
    if len(found) != 1:
        known = ", ".join(path.name for path in found) or "none"
        raise FleetDirError(f"name the fleet's folder with --dir or {DIR_VARIABLE}; known fleets: {known}")
    return found[0]


def write_fleet(folder: Path, fleet_json: str) -> None:
    """Write the resolved fleet into the locked folder, and a new key when there is none yet."""
    draft = folder / ".fleet.json"
    draft.write_text(fleet_json, encoding="utf-8")
    os.replace(draft, folder / "fleet.json")
    try:
        descriptor = os.open(folder / "secret", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))


@contextmanager
def supervisor_lock(folder: Path) -> Iterator[None]:
    """Hold the fleet: while the lock is held, the process id in the file is that of a living supervisor.

    :raises FleetDirError: when another one holds it.
    """
    # Tasks' outputs and the key lie in it.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / _LOCK_FILE, "a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FleetDirError(f"a fleet runs in {folder} already; `fate fleet down` stops it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def supervisor_pid(folder: Path) -> int | None:
    """The process id of the fleet's supervisor; None when none runs."""
    try:
        with open(folder / _LOCK_FILE, encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
    except FileNotFoundError:
        pass
    return None
