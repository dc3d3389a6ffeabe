"""How does a child process end that ends with its stdin?"""

from __future__ import annotations

import asyncio

STOP_TIMEOUT_S = 2.0


async def end(process: asyncio.subprocess.Process, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Close its stdin and wait; kill it where that is not enough."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(timeout_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
