"""Who keeps a local fleet running? A supervisor that starts one gateway process a device, and again when it died."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_fate.gateway.child import CANNOT_START, end

STOP_TIMEOUT_S = 4.0
FIRST_BACKOFF_S = 0.25
LONGEST_BACKOFF_S = 15.0
HEALTHY_AFTER_S = 10.0
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next start: twice as long after each quick death. Pure."""

    next_s: float = FIRST_BACKOFF_S

    def after_s(self, lived_s: float) -> float:
        if lived_s >= HEALTHY_AFTER_S:
            self.next_s = FIRST_BACKOFF_S
        pause_s, self.next_s = self.next_s, min(2 * self.next_s, LONGEST_BACKOFF_S)
        return pause_s


class CannotStart(Exception):
    """A gateway can't begin, for a reason that won't go away by itself; says which."""


class Supervisor:
    """The gateways of one fleet folder.

    Each gateway ends when its stdin does, so that none outlives the supervisor, however that ends. One that ran once is
    started again whatever happens: what is in its way then was not there before, and may go.

    :param on_event: called with a line on what happened.
    """

    def __init__(self, folder: Path, devices: Sequence[str], on_event: Callable[[str], None] = _log.info) -> None:
        self._folder = folder
        self._devices = devices
        self._on_event = on_event
        self.pids: dict[str, int] = {}

    async def run(self) -> None:
        """Keep all gateways running until cancelled; then stop them.

        :raises CannotStart: when one can't begin; the others are stopped by then.
        """
        (self._folder / "logs").mkdir(parents=True, exist_ok=True)
        for device in self._devices:
            self._withdraw_pod(device)
        try:
            async with asyncio.TaskGroup() as group:
                for device in self._devices:
                    group.create_task(self._keep_running(device))
        except ExceptionGroup as group_of_troubles:
            failures = group_of_troubles.subgroup(CannotStart)
            if failures is None:
                raise
            raise CannotStart("; ".join(str(failure) for failure in failures.exceptions)) from None

    async def _keep_running(self, device: str) -> None:
        backoff = Backoff()
        last_end = ""
        has_run = False
        while True:
            started_s = time.monotonic()
            process = await self._start(device)
            self.pids[device] = process.pid
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                await end(process, STOP_TIMEOUT_S)
                raise
            finally:
                del self.pids[device]
                self._withdraw_pod(device)
            lived_s = time.monotonic() - started_s
            why = f" ({self._last_words(device)})" if code > 0 else ""
            if code == CANNOT_START and not has_run:
                raise CannotStart(self._last_words(device))
            has_run = True
            pause_s = backoff.after_s(lived_s)
            ended = f"{device}: gateway ended with {code}{why}, is started again"
            if ended != last_end or lived_s >= HEALTHY_AFTER_S:
                self._on_event(ended)
            last_end = ended
            await asyncio.sleep(pause_s)

    def _last_words(self, device: str) -> str:
        """The last line of a gateway's log."""
        lines = self._log(device).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it says nothing"

    def _log(self, device: str) -> Path:
        return self._folder / "logs" / f"{device}.log"

    def _withdraw_pod(self, device: str) -> None:
        """What a gateway does itself, unless it was killed."""
        (self._folder / "pods" / f"{device}.json").unlink(missing_ok=True)

    async def _start(self, device: str) -> asyncio.subprocess.Process:
        command = (sys.executable, "-m", "airflow_fate.gateway", "--fleet-dir", str(self._folder), "--device", device)
        log_file = os.open(self._log(device), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            return await asyncio.create_subprocess_exec(
                *command,
                "--exit-with-stdin",
                stdin=asyncio.subprocess.PIPE,
                stdout=log_file,
                stderr=log_file,
                # Ctrl-C is for the supervisor alone, which then stops its gateways in order.
                start_new_session=True,
            )
        finally:
            os.close(log_file)
