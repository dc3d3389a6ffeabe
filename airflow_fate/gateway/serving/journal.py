"""What does a gateway still know after its restart? The fences that it has learned, and which reservations were ended.

A file of lines, each added with one write: what is half written when the process dies is not read. Where the file is
lost, tokens expire before long.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_fate.atomic import write_whole
from airflow_fate.gateway.serving.fences import Fences
from airflow_fate.messages import TOKEN_VALID_S

KEPT_S = TOKEN_VALID_S + 600.0
"""By then the last token of a reservation that was ended has expired: ended ones get no new ones."""
SPARE_LINES = 1024
_log = logging.getLogger(__name__)


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    at: float
    fence: int | None = None
    live: list[int] = []
    ended: str | None = None
    why: str = ""


class Journal:
    """The fences of one device, kept in a file."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._lines = self._most_lines = 0
        self._ended_at: dict[str, float] = {}
        self._learned_at = 0.0
        self.fences = Fences()
        for line in self._read():
            if line.fence is not None:
                self.fences.restore(line.fence, line.live)
                self._learned_at = line.at
            elif line.ended is not None:
                self.fences.end(line.ended, line.why)
                self._ended_at[line.ended] = line.at
        self._write_anew()
        self.fences.on_learned = self._learned
        self.fences.on_ended = self._ended

    def _read(self) -> list[_Line]:
        lines = []
        try:
            data = self._path.read_bytes()
        except OSError:
            return []
        for text in data.split(b"\n"):
            try:
                line = _Line.model_validate_json(text)
            except ValidationError:
                continue
            if line.at > self._clock() - KEPT_S:
                lines.append(line)
        return lines

    def _learned(self, fence: int, live: frozenset[int]) -> None:
        self._learned_at = self._clock()
        self._add(_Line(at=self._learned_at, fence=fence, live=sorted(live)))

    def _ended(self, reservation: str, why: str) -> None:
        self._ended_at[reservation] = self._clock()
        self._add(_Line(at=self._clock(), ended=reservation, why=why))

    def _add(self, line: _Line) -> None:
        if self._lines > self._most_lines:
            self._write_anew()
        # The line before may be torn, if the disk was full.
        with self._failure_logged():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(f"\n{line.model_dump_json(exclude_defaults=True)}".encode())
        self._lines += 1

    def _write_anew(self) -> None:
        """Only what still counts."""
        oldest_s = self._clock() - KEPT_S
        self._ended_at = {
            name: at for name, at in self._ended_at.items() if at > oldest_s and name in self.fences.ended
        }
        lines = [_Line(at=at, ended=name, why=self.fences.ended[name]) for name, at in self._ended_at.items()]
        if self.fences.newest >= 0:
            lines.append(_Line(at=self._learned_at, fence=self.fences.newest, live=sorted(self.fences.live)))
        with self._failure_logged():
            write_whole(self._path, "\n".join(line.model_dump_json(exclude_defaults=True) for line in lines))
            self._lines, self._most_lines = len(lines), 2 * len(lines) + SPARE_LINES

    @contextmanager
    def _failure_logged(self) -> Iterator[None]:
        """A file that can't be written is logged, and ends nothing."""
        try:
            yield
        except OSError as error:
            _log.warning("%s can't be written, a restart forgets which reservations have ended: %s", self._path, error)
