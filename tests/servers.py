"""Servers of our own, for a session of tests: PostgreSQL, MariaDB and Redis, as Debian packs them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from airflow_fate.gateway.child import free_port


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of our own; its URL."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin")) + [
        Path(path).resolve().parent for path in [shutil.which("initdb")] if path
    ]
    if not folders:
        without("PostgreSQL's server programs (initdb, postgres)")
    # The server refuses to run as root, and its folder must be its own.
    user = "postgres" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="fate-pg-"))
    if user:
        shutil.chown(folder, user)
    port = free_port()
    data = folder / "data"
    initdb: list[str | Path] = [folders[-1] / "initdb", "-D", data, "-U", "fate", "-A", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, user=user, cwd=folder)
    options = ["-p", str(port), "-k", str(folder), "-h", "127.0.0.1", "-c", "fsync=off", "-c", "max_connections=200"]
    with (folder / "log").open("wb") as log:
        command: list[str | Path] = [folders[-1] / "postgres", "-D", data, *options]
        server = subprocess.Popen(command, stdout=log, stderr=log, user=user, cwd=folder)
    try:
        ready: list[str | Path] = [folders[-1] / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
        while subprocess.run(ready, capture_output=True, check=False).returncode:
            assert server.poll() is None, (folder / "log").read_text()
        create: list[str | Path] = [
            folders[-1] / "createdb",
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-U",
            "fate",
            "airflow",
        ]
        subprocess.run(create, check=True, capture_output=True)
        yield f"postgresql+psycopg2://fate@127.0.0.1:{port}/airflow"
    finally:
        # A fast shutdown: SIGTERM would wait for every client.
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[str]:
    """A MariaDB server of our own; its URL."""
    install, program = (
        shutil.which("mariadb-install-db"),
        shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin"),
    )
    if install is None or program is None:
        without("MariaDB's server programs (mariadb-install-db, mariadbd)")
    # As root it wants to be told whom to become.
    user = ["--user=mysql"] if os.getuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="fate-my-"))
    if user:
        shutil.chown(folder, "mysql")
    port, data = free_port(), f"--datadir={folder / 'data'}"
    # Nobody but who can connect to it is there: its own user may do all without a password.
    options = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
    subprocess.run([install, "--no-defaults", *user, data, *options], check=True, capture_output=True, cwd=folder)
    network = ["--bind-address=127.0.0.1", f"--port={port}", f"--socket={folder / 's'}", "--skip-name-resolve"]
    with (folder / "log").open("wb") as log:
        command = [program, "--no-defaults", *user, data, *network, "--innodb-flush-log-at-trx-commit=0"]
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        while "ready for connections" not in (folder / "log").read_text():
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"mysql+pymysql://root@127.0.0.1:{port}/mysql?charset=utf8mb4"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server of our own; its URL."""
    program = shutil.which("redis-server")
    if program is None:
        without("redis-server")
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([program, *options], stdout=log, stderr=log)
    try:
        while "Ready to accept connections" not in (folder / "log").read_text():
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(30)


def without(what: str) -> NoReturn:
    """A test can't run here. Where all must run, that is its failure."""
    if os.environ.get("FATE_REQUIRE_SERVERS"):
        pytest.fail(f"{what} must be there and are not installed")
    pytest.skip(f"{what} are not installed")
