"""How do several programs run as one thing, which ends as one, whatever happens?

Each program has a log file and a session of its own, so that Ctrl-C reaches only who started them, who then ends them
in reverse order. Should that process die without a word, the kernel ends them (Linux).
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class ProgramEnded(RuntimeError):
    """A program ended by itself; the message has the end of its log."""


@dataclass
class Programs:
    """Running programs by name.

    :param logs: folder of their logs, ``NAME.log``; created.
    """

    logs: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _order: list[str] = field(default_factory=list)

    def start(
        self, name: str, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        if name not in self._order:
            self._order.append(name)
        with self.log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
                start_new_session=True,
                # SIGTERM, not SIGKILL: the kubelet has processes of its own to end.
                preexec_fn=lambda: _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
            )

    def stop(self, name: str, grace_s: float = 10.0) -> None:
        """SIGTERM, then SIGKILL after ``grace_s`` seconds."""
        process = self.running.pop(name)
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop_all(self) -> None:
        """In the reverse order of their first start: others still need one that was started again."""
        for name in reversed(self._order):
            if name in self.running:
                self.stop(name)

    def check(self) -> None:
        """:raises ProgramEnded: when one of them runs no more."""
        for name, process in self.running.items():
            if process.poll() is not None:
                tail = self.log(name).read_text(errors="replace")[-3000:]
                raise ProgramEnded(f"{name} ended with {process.returncode}; the end of {self.log(name)}:\n{tail}")

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"
