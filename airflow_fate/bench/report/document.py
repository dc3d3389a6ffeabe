"""How is a report written? Blocks that become Markdown and HTML alike."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Code:
    """A command."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table whose first column is names and whose others are figures.

    :param marked: rows that stand out.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Picture:
    """An image beside the report."""

    file: str
    says: str


Block = Heading | Text | Code | Table | Picture

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2, h3 { line-height: 1.2; }
.table { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { border-bottom: 2px solid #888; }
tr.marked { background: #eef4ff; font-weight: 600; }
pre { background: #f4f4f4; padding: .6rem; overflow-x: auto; }
img { max-width: 100%; }
@media (prefers-color-scheme: dark) {
  body { background: #181818; color: #ddd; }
  th, td { border-color: #444; }
  tr.marked { background: #23304a; }
  pre { background: #262626; }
}
"""


def to_markdown(blocks: Sequence[Block]) -> str:
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    body = "\n".join(_html(block) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Text(text):
            return text
        case Code(text):
            return "    " + text.replace("\n", "\n    ")
        case Picture(file, says):
            return f"![{says}]({file})"
        case Table(header, rows, marked):
            lines = [_line(header), "|" + "|".join(["---", *["---:"] * (len(header) - 1)]) + "|"]
            lines += [
                _line([f"**{cell}**" if cell else "" for cell in row] if index in marked else row)
                for index, row in enumerate(rows)
            ]
            return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Text(text):
            return f"<p>{html.escape(text)}</p>"
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Picture(file, says):
            return f'<p><img src="{html.escape(file)}" alt="{html.escape(says)}"></p>'
        case Table(header, rows, marked):
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
            body = "\n".join(
                ('<tr class="marked">' if index in marked else "<tr>")
                + "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
                + "</tr>"
                for index, row in enumerate(rows)
            )
            return f'<div class="table"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
