"""Where do large outputs lie? In files on the node that made them, under a size budget.

All gateways of a node share the folder. What an upload may still write it reserves by the size of its draft, while it
alone holds the folder's lock: so all uploads of a node, however many come at once, share one budget. A link named after
the output's owner leads to it, so that a later try's output takes the place of the one before.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

KEY = re.compile(r"[0-9a-f]{16,64}")
MAX_AGE_S = 24 * 3600.0
SETTLED_S = 1.0
"""Two changes within a tick of the file system's clock leave a folder with one time."""
MOST_OUTPUTS = 10_000
"""Of a node, each with the link of its owner: also empty ones cost time, and a file system's nodes."""
FORGOTTEN_S = 600.0
"""A draft that nobody has written to for so long has lost its writer."""
_LOCK, _DRAFT, _OWNER = ".lock", ".draft-", ".of-"
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class NoRoom(Exception):
    """The disk or the budget is full."""


class AlreadyStored(Exception):
    """The key is written already."""


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

    async def put(self, key: str, chunks: AsyncIterator[bytes], owner: str = "", declared_bytes: int = 0) -> int:
        """Store an artifact; whoever reads sees all of it or nothing.

        :param owner: whose earlier artifact it takes the place of; empty if there can't be one.
        :param declared_bytes: as large as it will be, if that is known: no more is reserved for it.
        :returns: its size in bytes.
        :raises NoRoom: when it doesn't fit; nothing is left of it then.
        :raises AlreadyStored: when there is one of this key.
        """
        path = self._path(key)
        owner_link = self._folder / f"{_OWNER}{hashlib.sha256(owner.encode()).hexdigest()[:32]}" if owner else None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if path.exists():
                raise AlreadyStored(f"artifact {key} is stored already, and is written once")
            if await asyncio.to_thread(self._drop_old) > 2 * MOST_OUTPUTS:
                raise NoRoom(f"artifact {key} can't be stored: this node has {MOST_OUTPUTS} of them already")
            size_bytes = reserved_bytes = 0
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=_DRAFT, delete=False) as file:
                draft = Path(file.name)
                try:
                    async for chunk in chunks:
                        size_bytes += len(chunk)
                        if size_bytes > reserved_bytes:
                            wanted_bytes = declared_bytes if declared_bytes >= size_bytes else 2 * size_bytes
                            reserved_bytes = await asyncio.to_thread(
                                self._reserve, draft, size_bytes, wanted_bytes, owner_link
                            )
                        await asyncio.to_thread(file.write, chunk)
                    file.truncate()
                    await asyncio.to_thread(self._commit, draft, path, owner_link)
                finally:
                    draft.unlink(missing_ok=True)
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise NoRoom(
                    f"artifact {key} can't be stored: {os.strerror(error.errno)}; make room for {self._folder}"
                ) from error
            raise
        return size_bytes

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
            sizes = [size for name, size in self._sizes() if KEY.fullmatch(name)]
            self._counted = (modified_s, (len(sizes), sum(sizes)))
        return self._counted[1]

    def _path(self, key: str) -> Path:
        if not KEY.fullmatch(key):
            raise ValueError(f"artifact key must be 16 to 64 hex digits in lower case, got {key[:80]!r}")
        return self._folder / key

    def _reserve(self, draft: Path, needed_bytes: int, wanted_bytes: int, owner_link: Path | None) -> int:
        """Let a draft have the bytes that it needs, and those that it wants if there is room; how many it has then."""
        with self._alone():
            before = _target(owner_link)
            others = sum(size for name, size in self._sizes() if name not in (draft.name, before))
            room_bytes = self._budget_bytes - others
            if needed_bytes > room_bytes:
                raise NoRoom(
                    f"{needed_bytes} bytes don't fit into the {self._budget_bytes} that this node has for artifacts, "
                    f"{others} of them taken: raise artifacts_gb in the fleet file"
                )
            reserved_bytes = min(room_bytes, wanted_bytes)
            os.truncate(draft, reserved_bytes)
        return reserved_bytes

    def _commit(self, draft: Path, path: Path, owner_link: Path | None) -> None:
        with self._alone():
            try:
                # Not a rename, which would take the place of one that came meanwhile.
                os.link(draft, path)
            except FileExistsError as error:
                raise AlreadyStored(f"artifact {path.name} is stored already, and is written once") from error
            if owner_link is None:
                return
            before = _target(owner_link)
            owner_link.unlink(missing_ok=True)
            owner_link.symlink_to(path.name)
            if before != path.name and KEY.fullmatch(before):
                (self._folder / before).unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else on the node counts or reserves meanwhile; freed also when this process is killed."""
        with (self._folder / _LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _sizes(self) -> list[tuple[str, int]]:
        """Of all artifacts and drafts."""
        sizes = []
        for entry in os.scandir(self._folder):
            if KEY.fullmatch(entry.name) or entry.name.startswith(_DRAFT):
                # A neighbour on the same node may delete it meanwhile.
                with suppress(FileNotFoundError):
                    sizes.append((entry.name, entry.stat(follow_symlinks=False).st_size))
        return sizes

    def _drop_old(self) -> int:
        """How many files there were."""
        now_s, count = self._clock(), 0
        for path in self._folder.iterdir():
            count += 1
            max_age_s = min(FORGOTTEN_S, self._max_age_s) if path.name.startswith(_DRAFT) else self._max_age_s
            with suppress(FileNotFoundError):
                if path.name != _LOCK and path.lstat().st_mtime < now_s - max_age_s:
                    path.unlink()
        return count


def _target(link: Path | None) -> str:
    """The name of what a link leads to; empty if nothing."""
    try:
        return os.readlink(link) if link else ""
    except FileNotFoundError:
        return ""
