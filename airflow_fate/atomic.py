"""How does a file get there whole, or not at all? Written beside its name, then renamed."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file that readers, and an interrupt, see complete or not at all. Missing folders are made.

    :raises OSError: when it can't be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The point keeps it out of the sight of those who read all files of a folder.
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(draft, path)
    except BaseException:
        # An interrupt as well: it must not leave the half of a file.
        draft.unlink(missing_ok=True)
        raise


def write_json(path: Path, document: Any) -> None:
    """Write a document as JSON, whole or not at all.

    :raises ValueError: on a number that JSON hasn't, such as an infinite one.
    """
    write_whole(path, json.dumps(document, indent=1, allow_nan=False) + "\n")
