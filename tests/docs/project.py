"""The project that a page of docs/ imagines, made in a temporary folder, and the page run in it.

What the pages take for granted (a shop with payments and mail) lies in scratch/. The page's settings and models are
added before Django starts, everything else in the page's order.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .pages import Block, Page

HERE = Path(__file__).resolve().parent


def run(page: Page, folder: Path) -> None:
    """Run every block of the page, then the tests that it shows; AssertionError with what was printed if one fails."""
    shutil.copytree(HERE / "scratch", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    run = [block for block in page.blocks if block.is_run]
    tests = [block for block in run if _is_test(block)]
    first = [block for block in run if _is_first(block)]
    for block in first:
        with (folder / block.path).open("w" if block.path.endswith("models.py") else "a") as file:
            file.write(f"\n{block.code}")
    rest = [block for block in run if block not in first and block not in tests]
    (folder / "page.json").write_text(json.dumps(_described(rest)))
    _python(folder, str(HERE / "run_page.py"), str(page.path), "page.json")
    if tests:
        _run_tests(tests, folder)


def _run_tests(tests: list[Block], folder: Path) -> None:
    paths = list(dict.fromkeys(block.path for block in tests))
    for path in paths:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text("\n".join(block.code for block in tests if block.path == path))
    (folder / "pytest.ini").write_text("[pytest]\n")
    # The plugin of this code, whatever the installed package has registered.
    plugin = ("-p", "no:canx_flow", "-p", "canx_flow.pytest_plugin")
    pytest = ("-m", "pytest", "-q", *plugin, "-p", "no:cacheprovider", "-p", "no:randomly", "--ds", "mysite.settings")
    _python(folder, *pytest, "--nomigrations", *paths)


def _is_test(block: Block) -> bool:
    return Path(block.path).name.startswith(("test", "conftest"))


def _is_first(block: Block) -> bool:
    return block.path.endswith(("models.py", "settings.py"))


def _described(blocks: list[Block]) -> list[dict[str, object]]:
    seen: set[str] = set()
    described: list[dict[str, object]] = []
    for block in blocks:
        more = block.path in seen
        seen.add(block.path)
        described.append(
            {"language": block.language, "code": block.code, "line": block.line, "path": block.path, "more": more}
        )
    return described


def _python(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
