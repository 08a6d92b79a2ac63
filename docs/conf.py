"""How Sphinx builds these pages: `make docs`. Nothing is fetched, so it works without a network."""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from typing import Any

# ruff: noqa: INP001 - a program of Sphinx's, no module of a package

project = "canx_flow"
author = "the canx_flow authors"
project_copyright = author
release = version = installed_version("canx-flow")

extensions = ["myst_parser"]
exclude_patterns = ["_build"]

# Links such as (page.md#a-heading) are resolved, and reported where there is no such heading.
myst_heading_anchors = 3

html_theme = "furo"
html_title = "canx_flow"
html_static_path = ["_static"]
html_css_files = ["canx_flow.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    # Links, and the border of what is current, in a green that is readable on both grounds.
    "light_css_variables": {"color-brand-primary": "#0c4b33", "color-brand-content": "#0b6b47"},
    "dark_css_variables": {"color-brand-primary": "#7fd1ae", "color-brand-content": "#7fd1ae"},
}

#: The pages that lead to others. Sphinx's contents are made of their links, so that they can be read without Sphinx.
LEADING = ("index", "reference/index", "decisions/index")


def without_comments(_app: Any, _name: str, source: list[str]) -> None:
    """Leave out what a page says to the tests and to scripts alone; lines keep their numbers."""
    comment = re.compile(r"^ *<!-- (?:test|not run|terminal|from the code|end)\b.*?-->$", re.MULTILINE | re.DOTALL)
    source[0] = comment.sub(lambda found: "\n" * found[0].count("\n"), source[0])


def with_contents(_app: Any, name: str, source: list[str]) -> None:
    """Add a table of contents for each section of a leading page: the pages that it links, in their order."""
    if name not in LEADING:
        return
    begin, *sections = re.split(r"^## ", source[0], flags=re.MULTILINE)
    seen: set[str] = set()
    parts = [begin + _contents("", begin, seen)]
    parts += [f"## {section}{_contents(section.partition(chr(10))[0], section, seen)}" for section in sections]
    source[0] = "".join(parts)


def _contents(caption: str, text: str, seen: set[str]) -> str:
    linked = dict.fromkeys(re.findall(r"\]\(([\w/-]+)\.md\)", text))
    pages = [page for page in linked if page not in seen]
    seen.update(pages)
    if not pages:
        return ""
    said = f":caption: {caption}\n" if caption else ""
    return "\n".join(["", "```{toctree}", f"{said}:hidden:", "", *pages, "```", ""])


def setup(app: Any) -> None:
    """Connect what Sphinx calls in this file."""
    app.connect("source-read", without_comments)
    app.connect("source-read", with_contents)
