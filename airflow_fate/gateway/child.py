"""Where does a child process listen, and how does one end that ends with its stdin?"""

from __future__ import annotations

import asyncio
import socket

CANNOT_START = 78
"""The exit status of a process that would fail in the same way again; its last line says why."""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def end(process: asyncio.subprocess.Process, timeout_s: float) -> None:
    """Close its stdin and wait; kill it where that is not enough."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(timeout_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
