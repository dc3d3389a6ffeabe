"""What does docs/troubleshooting.md promise? Its rows: what one did, what one sees, what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
GAP = "…"


@dataclass(frozen=True)
class Row:
    """One mistake.

    :param sees: the sentence, in pieces that follow each other; between them is what differs.
    """

    did: str
    sees: tuple[str, ...]
    todo: str

    def is_told_by(self, text: str) -> bool:
        """Whether a text has all pieces, in order. Where lines are broken doesn't count."""
        words = " ".join(text.split())
        position = 0
        for piece in self.sees:
            position = words.find(piece, position)
            if position < 0:
                return False
            position += len(piece)
        return True


def rows() -> dict[str, Row]:
    """Each row by what one did."""
    rows_by_did = {}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"\| (.+?) \| ``? ?(.+?) ?``? \| (.+) \|", line)
        if match:
            did, sees, todo = match.groups()
            assert did not in rows_by_did, f"{did} stands there twice"
            rows_by_did[did] = Row(did, tuple(piece.strip() for piece in sees.split(GAP) if piece.strip()), todo)
    return rows_by_did
