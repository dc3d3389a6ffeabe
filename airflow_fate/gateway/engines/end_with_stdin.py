"""How does a command end with its parent? ``python -m ...end_with_stdin COMMAND`` ends it when stdin does.

All processes that it started end with it. So an engine that has workers of its own never outlives its gateway, even one
that was killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

GRACE_S = 10.0


def main() -> int:
    # A session of its own: whoever interrupts the gateway must not interrupt an answer that the gateway still awaits.
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_end_with_stdin, args=(process,), daemon=True).start()
    code = process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return code if code >= 0 else 128 - code


def _end_with_stdin(process: subprocess.Popen[bytes]) -> None:
    # Not through sys.stdin: its lock would be held when the interpreter ends.
    while os.read(sys.stdin.fileno(), 1024):
        pass
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()


if __name__ == "__main__":
    # Handlers, for what is ignored here would be ignored by the command, too.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    sys.exit(main())
