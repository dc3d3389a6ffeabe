"""What may be set under ``[fate]``? ``python -m tests.configuration`` writes docs/configuration.md's table anew."""

from __future__ import annotations

from pathlib import Path

from airflow_fate.provider_info import OPTIONS

DOCUMENT = Path(__file__).parents[1] / "docs" / "configuration.md"
HEAD = "| key | type | default | meaning | such as |\n|---|---|---|---|---|\n"


def table() -> str:
    """A row for each setting."""
    return HEAD + "".join(
        f"| `{name}` | {option['type']} | {_code(option['default'])} | {_cell(option['description'])} | "
        f"{_code(option['example'])} |\n"
        for name, option in OPTIONS.items()
    )


def _code(value: str) -> str:
    return f"`{value}`" if value else "empty"


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(HEAD)
    DOCUMENT.write_text(before + table() + "\n" + rest.partition("\n\n")[2], encoding="utf-8")
