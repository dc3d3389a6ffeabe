"""How is the documents' site built? `make docs`; a warning is an error."""

from __future__ import annotations

from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

project = "airflow-fate"
release = version = version_of("airflow-fate")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"airflow-fate {release}"
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
autodoc_typehints = "description"
autodoc_member_order = "bysource"
nitpicky = False


ROOT = Path(__file__).parents[1]
PAGES = {"index": "README.md", "contributing": "CONTRIBUTING.md"}
"""Pages of the site that begin with a file of the repository."""
LINKS = {
    "](../README.md": "](index.md",
    "](docs/": "](",
    "](dags_examples/)": "](examples.md)",
    "](CONTRIBUTING.md)": "](contributing.md)",
}
"""What leads somewhere in the repository, and where that is on the site."""


def _of_the_repository(app: Sphinx, name: str, source: list[str]) -> None:
    text = ((ROOT / PAGES[name]).read_text() + "\n" if name in PAGES else "") + source[0]
    for link, on_site in LINKS.items():
        text = text.replace(link, on_site)
    source[0] = text


def setup(app: Sphinx) -> None:
    app.connect("source-read", _of_the_repository)
