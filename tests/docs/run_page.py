"""Runs the blocks of one page in order, in the project that lies in the current folder. Started by `project`.

A block that names a file is added to that module. Every other one is run in one namespace, the page's.
"""

from __future__ import annotations

import doctest
import importlib
import json
import os
import sys
from copy import copy
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))


def main(page: str, file: str) -> None:
    """Run the blocks that are described in `file`; `page` is where they come from, for tracebacks."""
    blocks = json.loads(Path(file).read_text())
    os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.test.utils import setup_test_environment

    django.setup()
    setup_test_environment()
    for alias in settings.DATABASES:
        call_command("migrate", database=alias, run_syncdb=True, verbosity=0)
    call_command("check", "--fail-level", "ERROR")
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        code = compile_lines(block, page) if block["language"] != "pycon" else block["code"]
        if block["path"]:
            add_to_module(block, code)
        elif block["language"] == "pycon":
            run_session(block, page, namespace)
        else:
            exec(code, namespace)


def compile_lines(block: dict[str, Any], page: str) -> Any:
    """Its code, with as many lines before it as in the page: a traceback names the page's line."""
    return compile("\n" * (block["line"] - 1) + block["code"], page, "exec")


def add_to_module(block: dict[str, Any], code: Any) -> None:
    """Run the code as part of the module that it names, which is made or imported if need be."""
    path = Path(block["path"])
    name = ".".join(path.with_suffix("").parts)
    if name not in sys.modules and not path.exists():
        path.write_text("")
        importlib.invalidate_caches()
    module = importlib.import_module(name)
    # Its whole text is on disk afterwards, for the tests that the page may show.
    text = path.read_text() if block["more"] else ""
    path.write_text(text + block["code"])
    # As after a reload, so that a page may show what a workflow is changed to.
    module.__spec__ = copy(module.__spec__)
    exec(code, module.__dict__)


def run_session(block: dict[str, Any], page: str, namespace: dict[str, Any]) -> None:
    """Type what follows each `>>>`, and compare what comes back with what the page shows; `...` stands for anything."""
    session = doctest.DocTestParser().get_doctest(block["code"], namespace, page, page, block["line"] - 1)
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    failed, _ = runner.run(session, clear_globs=False)
    if failed:
        sys.exit(1)
    namespace.update(session.globs)


if __name__ == "__main__":
    main(*sys.argv[1:])
