"""Where do large outputs lie? In files on the node that made them, under a size budget."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

KEY = re.compile(r"[0-9a-f]{16,64}")
MAX_AGE_S = 24 * 3600.0
SETTLED_S = 1.0
"""Two changes within a tick of the file system's clock leave a folder with one time."""
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class NoRoom(Exception):
    """The disk or the budget is full."""


class Artifacts:
    """One node's artifacts; the gateways of a node share the folder.

    :param budget_bytes: room for all of them.
    :param max_age_s: older ones make room for new ones; younger ones never do, for a task may still come for them.
    """

    def __init__(
        self,
        folder: Path,
        budget_bytes: int,
        max_age_s: float = MAX_AGE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._budget_bytes = budget_bytes
        self._max_age_s = max_age_s
        self._clock = clock
        self._counted = (0.0, (0, 0))

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Store an artifact; whoever reads sees all of it or nothing.

        :returns: its size in bytes.
        :raises NoRoom: when it doesn't fit; nothing is left of it then.
        """
        path = self._path(key)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._drop_expired()
            room_bytes = self._budget_bytes - self._count()[1]
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", delete=False) as file:
                try:
                    async for chunk in chunks:
                        room_bytes -= len(chunk)
                        if room_bytes < 0:
                            raise NoRoom(
                                f"artifact {key} doesn't fit into the {self._budget_bytes} bytes that its node has for "
                                "artifacts: raise artifacts_gb in the fleet file"
                            )
                        file.write(chunk)
                    file.close()
                    os.replace(file.name, path)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise NoRoom(
                    f"artifact {key} can't be stored: {os.strerror(error.errno)}; make room for {self._folder}"
                ) from error
            raise
        return path.stat().st_size

    def get(self, key: str) -> Path | None:
        """The file of an artifact."""
        path = self._path(key)
        return path if path.is_file() else None

    def held(self) -> tuple[int, int]:
        """How many artifacts there are, and their bytes; as cheap as a look while the folder stays as it is."""
        try:
            modified_s = self._folder.stat().st_mtime
        except FileNotFoundError:
            return 0, 0
        if modified_s != self._counted[0] or self._clock() < modified_s + SETTLED_S:
            self._counted = (modified_s, self._count())
        return self._counted[1]

    def _path(self, key: str) -> Path:
        if not KEY.fullmatch(key):
            raise ValueError(f"artifact key must be 16 to 64 hex digits in lower case, got {key[:80]!r}")
        return self._folder / key

    def _count(self) -> tuple[int, int]:
        count = total_bytes = 0
        for entry in os.scandir(self._folder):
            if KEY.fullmatch(entry.name):
                # A neighbour on the same node may delete it meanwhile.
                with suppress(FileNotFoundError):
                    total_bytes += entry.stat().st_size
                    count += 1
        return count, total_bytes

    def _drop_expired(self) -> None:
        oldest_kept_s = self._clock() - self._max_age_s
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest_kept_s:
                    path.unlink()
