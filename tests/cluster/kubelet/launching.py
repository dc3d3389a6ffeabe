"""How is a command started in a sandbox, and how is it known to run?"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.cluster.kubelet import sandbox
from tests.cluster.kubelet.sandbox import Launch

PROGRAM = (sys.executable, "-I", "-S", sandbox.__file__)


@dataclass(frozen=True)
class Started:
    """:param refused: why the command does not run; empty when it does."""

    process: asyncio.subprocess.Process
    refused: str


async def start(launch: Launch, log: Path) -> Started:
    """Returns when the command runs, or is known not to; its output is added to ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    reader, writer = os.pipe()
    stream = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(stream)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(reader, "rb"))
    process = None
    try:
        try:
            with log.open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    *PROGRAM,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    pass_fds=(writer,),
                    start_new_session=True,
                )
        finally:
            # Only the sandbox holds it now, so its end, or the command's start, ends the reading.
            os.close(writer)
        assert process.stdin
        # By pipe: an environment may have secrets in it, which arguments and files would show.
        process.stdin.write(replace(launch, report=writer).to_json().encode())
        process.stdin.close()
        refused = (await stream.read()).decode()
    except BaseException:
        if process:
            send(process, signal.SIGKILL)
        raise
    finally:
        transport.close()
    if refused:
        with log.open("a") as output_text:
            output_text.write(refused + "\n")
    return Started(process, refused)


def send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """A signal to the command; nothing when it has ended."""
    with suppress(ProcessLookupError):
        process.send_signal(number)
