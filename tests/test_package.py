"""The package as a whole: what it exports, what importing it needs, and that its floors hold."""

from __future__ import annotations

import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import canx_flow
from canx_flow import exceptions

from .processes import ROOT

pytestmark = pytest.mark.once

NAMES = {
    "workflow",
    "schedule",
    "Retry",
    "Context",
    "AsyncContext",
    "current_step",
    "in_step",
    "send_event",
    "get_run",
    "register_type",
    "GiveUp",
    "RetryAfter",
}
ERRORS = {
    name
    for name, value in vars(exceptions).items()
    if isinstance(value, type) and issubclass(value, exceptions.CanxFlowError)
}


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """This interpreter in a process that knows no settings."""
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_public_names_are_exported() -> None:
    """`canx_flow` exports the twelve public names and the errors, and nothing else."""
    assert set(canx_flow.__all__) == NAMES | ERRORS
    assert all(hasattr(canx_flow, name) for name in canx_flow.__all__)


def test_importing_needs_no_settings() -> None:
    """`import canx_flow` and declaring a workflow work before Django is configured, and load no models."""
    code = """
import sys
import canx_flow

@canx_flow.workflow("package.early")
def early(ctx):
    return 1

assert "canx_flow.models" not in sys.modules
"""
    imported = _python("-W", "error", "-c", code)
    assert imported.returncode == 0, imported.stderr


def test_the_package_under_test_is_the_one_that_is_meant() -> None:
    """From the source tree in a clone; under tox the installed wheel, in this process and in those that it starts."""
    started = _python("-c", "import canx_flow; print(canx_flow.__file__)")
    assert started.stdout.strip() == canx_flow.__file__
    is_source = Path(canx_flow.__file__).is_relative_to(ROOT / "canx_flow")
    assert is_source == ("CANX_FLOW_SOURCE" not in os.environ)


def test_the_package_is_typed() -> None:
    """`py.typed` stands beside the code, so type checkers read its annotations."""
    assert (Path(canx_flow.__file__).parent / "py.typed").exists()


@pytest.mark.source
def test_no_module_imports_itself_by_way_of_others() -> None:
    """There is no circle of imports, not even for type checkers, but for bulk verbs, which import the client late."""
    import grimp  # It is not installed where this test is left out.

    graph = grimp.build_graph("canx_flow", cache_dir=None)
    for module in {name for name in graph.modules if name.startswith("canx_flow.models")}:
        if graph.direct_import_exists(importer=module, imported="canx_flow.client"):
            graph.remove_import(importer=module, imported="canx_flow.client")
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.source
def test_imports_point_down() -> None:
    """Every module imports only from its own floor and those below it: the contracts in pyproject.toml."""
    linted = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout
