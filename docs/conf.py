"""How Sphinx builds these pages: `make docs`. Nothing is fetched, so it works without a network."""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from typing import Any

import django
from django.conf import settings
from sphinx.pycode import ModuleAnalyzer

# ruff: noqa: INP001 - a program of Sphinx's, no module of a package

# Reference pages import the package, and its models need a configured Django.
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "canx_flow",
    ],
    SECRET_KEY="only-for-building-the-docs",  # noqa: S106 - nothing is signed with it
    USE_TZ=True,
)
django.setup()

project = "canx_flow"
author = "the canx_flow authors"
project_copyright = author
release = version = installed_version("canx-flow")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
# Docstrings write code between single backticks, as Markdown does.
default_role = "code"

myst_enable_extensions = ["colon_fence", "deflist"]
# Links such as (page.md#a-heading) are resolved, and reported where there is no such heading.
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

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

# Readers need one signature; the overloads are for type checkers.
for module in ("canx_flow.workflows", "canx_flow.replay.context"):
    analyzer = ModuleAnalyzer.for_module(module)
    analyzer.analyze()
    analyzer.overloads.clear()


def without_tests(_app: Any, _name: str, source: list[str]) -> None:
    """Leave out what a page says to the tests alone; lines keep their numbers."""
    comment = re.compile(r"^ *<!-- (?:test|not run|terminal)\b.*?-->$", re.MULTILINE | re.DOTALL)
    source[0] = comment.sub(lambda found: "\n" * found[0].count("\n"), source[0])


def setup(app: Any) -> None:
    """What Sphinx calls in this file."""
    app.connect("source-read", without_tests)
