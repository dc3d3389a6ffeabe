"""``python -m tests.aloud NAME COMMAND...``: what a command says, with its name, and a word in each silence.

Commands that run side by side can be told apart, and nobody waits before a screen on which nothing happens.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

SILENCE_S = 2.0


def run(name: str, command: Sequence[str]) -> int:
    """:return: the command's exit status."""
    # Ctrl-C reaches the command by itself; it ends in its own way, and we say what it says until then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=lambda: signal.signal(2, signal.SIG_DFL)
    )
    assert process.stdout is not None
    began_s, rest = time.monotonic(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        said_s = began_s
        while True:
            if selector.select(max(0.0, said_s + SILENCE_S - time.monotonic())):
                part = os.read(process.stdout.fileno(), 65536)
                if not part:
                    break
                *lines, rest = (rest + part).split(b"\n")
            else:
                # A line of dots may take minutes to be whole.
                lines, rest = [rest or f"... {time.monotonic() - began_s:.0f} s".encode()], b""
            for line in lines:
                _say(name, line)
                said_s = time.monotonic()
    if rest:
        _say(name, rest)
    return process.wait()


def _say(name: str, line: bytes) -> None:
    sys.stdout.buffer.write(f"{name}: ".encode() + line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))
