"""Where does a local fleet live, and does it run? Its folder, its key, and the lock that its supervisor holds."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_fate.atomic import write_whole

if TYPE_CHECKING:
    from airflow_fate.state.local import LocalFleet

DIR_VARIABLE = "FATE_FLEET_DIR"
_LOCK_FILE = "supervisor.lock"


class FleetDirError(Exception):
    """The folder can't be used; says what to do."""


def default_folder() -> Path:
    """``$FATE_FLEET_DIR``, or where the configured Airflow's executor looks: ``[fate] fleet_dir``."""
    if named := os.environ.get(DIR_VARIABLE):
        return Path(named)
    from airflow_fate.cli.airflow_settings import quiet

    with quiet():
        from airflow.configuration import conf

        return Path(conf.get("fate", "fleet_dir"))


def make_folder(folder: Path) -> None:
    """:raises FleetDirError: when it can't be made, or not be written to."""
    try:
        # Tasks' outputs and the key lie in it.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "logs").mkdir(exist_ok=True)
    except OSError as error:
        why = error.strerror or str(error)
        raise FleetDirError(f"folder {folder} can't be made ({why}); choose another one with --dir") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FleetDirError(f"folder {folder} can't be written to; choose another one with --dir")


def write_fleet(folder: Path, fleet_json: str) -> None:
    """Write the resolved fleet into the locked folder, and a new key when there is none yet."""
    write_whole(folder / "fleet.json", fleet_json)
    try:
        descriptor = os.open(folder / "secret", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))


@contextmanager
def supervisor_lock(folder: Path) -> Iterator[None]:
    """Hold the fleet: while the lock is held, the process id in the file is that of a living supervisor.

    :raises FleetDirError: when another one holds it, or the folder can't be used.
    """
    make_folder(folder)
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
    except (FileNotFoundError, NotADirectoryError):
        pass
    return None


def source_of(folder: Path) -> LocalFleet:
    """What the gateways of the fleet in the folder tell."""
    from airflow_fate.messages import DEFAULT_LABEL_PREFIX
    from airflow_fate.state.local import LocalFleet

    try:
        prefix = json.loads((folder / "fleet.json").read_bytes())["label_prefix"]
    except (OSError, ValueError, KeyError):
        prefix = DEFAULT_LABEL_PREFIX
    return LocalFleet(folder, prefix)
