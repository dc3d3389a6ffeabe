"""What the code and the documents cite is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = sorted((ROOT / "airflow_fate").rglob("*.py"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_documents_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_documents_and_their_sections_that_the_code_cites_exist() -> None:
    missing = []
    for source in SOURCES:
        for name, section in re.findall(r'(docs/[\w/-]+\.md)(?:, "([^"]+)")?', source.read_text()):
            document = ROOT / name
            if not document.is_file() or (section and f"# {section}\n" not in document.read_text()):
                missing.append((str(source.relative_to(ROOT)), name, section))
    assert missing == []


def test_the_tests_that_documents_name_exist() -> None:
    named = {
        (name, test)
        for document in DOCUMENTS
        for name, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", document.read_text())
    }
    assert len(named) > 30
    assert [at for at in sorted(named) if f"def {at[1]}(" not in (ROOT / at[0]).read_text()] == []
