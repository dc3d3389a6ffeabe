"""How does a file get there whole, or not at all? Written beside its name, then renamed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file that readers, and an interrupt, see complete or not at all. Missing folders are made.

    :raises OSError: when it can't be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        # An interrupt as well: it must not leave the half of a file.
        Path(temporary).unlink(missing_ok=True)
        raise
