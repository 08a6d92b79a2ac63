"""The code of the pages and of the README passes type checkers as strict as users run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from . import typed
from .pages import Page
from .typed import Line

pytestmark = [pytest.mark.once, pytest.mark.source]


Projects = dict[Path, dict[str, Line]]


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Projects:
    """Each page's project, by its folder, and where its lines come from."""
    root = tmp_path_factory.mktemp("typed")
    folders = {root / f"{page.path.parent.name}-{page.path.stem}": page for page in typed.pages()}
    return {folder: typed.project(page, folder) for folder, page in folders.items()}


def test_mypy_strict_has_nothing_to_say_of_the_pages(projects: Projects) -> None:
    """Every block of every page passes `mypy --strict` with the plugin of django-stubs."""
    found = [error for folder, origin in projects.items() for error in mypy(folder, origin)]
    assert not found, "\n".join(found)


@pytest.mark.skipif(not (find_spec("pyright") or "CI" in os.environ), reason="pyright is not installed here")
def test_pyright_has_nothing_to_say_of_the_pages(projects: Projects) -> None:
    """Every block of every page passes pyright, which knows no plugins."""
    found = pyright(projects)
    assert not found, "\n".join(found)


WRONG = """
```python
# shop/workflows.py
from canx_flow import Context, workflow


@workflow("right")
def right(ctx: Context, number: int) -> int:
    return ctx.step("one", round, float(number))
```

```python
from shop.workflows import right

run_id = right.start("one")
```

<!-- test
right.start("only a test sees it")
-->

```pycon
>>> right.result(run_id).upper()
'1'
```
"""


def test_what_is_wrong_in_a_page_is_found(tmp_path: Path) -> None:
    """A wrong argument and a wrong use of a result are reported with page and line; what only tests see is not."""
    path = tmp_path / "wrong.md"
    path.write_text(WRONG)
    folder = tmp_path / "project"
    found = mypy(folder, typed.project(Page(path), folder))
    assert [re.sub(r"^\S+/wrong.md:(\d+): .*\[(.*)\]$", r"\1 \2", error) for error in found] == [
        "15 arg-type",
        "23 attr-defined",
    ]


def mypy(folder: Path, origin: dict[str, Line]) -> list[str]:
    """The errors that mypy finds in a project; all projects share one cache."""
    arguments = ("--no-error-summary", "--no-pretty", "--cache-dir", folder.parent / "cache", ".")
    said = [line for line in run(folder, "mypy", *arguments).splitlines() if ": note: " not in line]
    places = [re.match(r"(\S+:\d+): (error: .*)", line) for line in said]
    assert all(places), "\n".join(said)
    return [f"{shown}: {place[2]}" for place in places if place and (shown := where(origin, place[1]))]


def pyright(projects: Projects) -> list[str]:
    """The errors that pyright finds in all projects at once."""
    root = next(iter(projects)).parent
    roots = [{"root": folder.name} for folder in projects]
    # What is typed after `>>>` is shown, and used for nothing.
    config = {"executionEnvironments": roots, "reportUnusedExpression": "none"}
    (root / "pyrightconfig.json").write_text(json.dumps(config))
    said = json.loads(run(root, "pyright", "--pythonpath", sys.executable, "--outputjson"))
    assert said["summary"]["filesAnalyzed"] > len(projects)
    found = []
    for answer in said["generalDiagnostics"]:
        path = Path(answer["file"]).relative_to(root)
        place = f"{path.relative_to(path.parts[0])}:{answer['range']['start']['line'] + 1}"
        if shown := where(projects[root / path.parts[0]], place):
            found.append(f"{shown}: {answer['message']}")
    return found


def where(origin: dict[str, Line], place: str) -> str:
    """Where it stands in a page, or in what is imagined around it; empty for what only tests see."""
    line = origin.get(place)
    return place if line is None else f"{line.page}:{line.number}" if line.shown else ""


def run(folder: Path, module: str, *arguments: str | Path) -> str:
    """What a checker prints; it may find something, but must not break."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode in (0, 1), f"{done.stdout}\n{done.stderr}"
    return done.stdout
