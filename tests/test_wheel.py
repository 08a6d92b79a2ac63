"""The built wheel and source archive: what is in them, what they bring along, and P11: a new project lives on them."""

from __future__ import annotations

import email
import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path, PurePosixPath

import pytest

from .processes import SOURCE

pytestmark = [pytest.mark.once, pytest.mark.source]

#: What belongs into a wheel: code, its marks, and what the admin shows.
SUFFIXES = {".py", ".typed", ".html", ".txt", ".css", ".js", ".svg", ".po", ".mo"}
#: What it takes to run everything that the README names.
FOLDERS = ["canx_flow", "tests", "testproject", "docs", "scripts", ".ci"]
FILES = ["Makefile", "pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"]
MADE = {"__pycache__", "_build", ".pytest_cache"}


def _run(*command: str | Path, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run it where nothing of this suite is known; AssertionError with its output if it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "DATABASE_URL"}}
    environment = {name: value for name, value in environment.items() if not name.startswith(("DJANGO_", "CANX_"))}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def _files(folder: Path) -> Iterator[str]:
    """What lies in a folder of the source tree, without what was made there."""
    for path in folder.rglob("*"):
        if path.is_file() and not MADE & set(path.parts) and path.suffix != ".pyc":
            yield path.relative_to(SOURCE).as_posix()


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel that was built from it, not from the source tree."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--outdir", folder, SOURCE, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    """The wheel that was built."""
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def archive(dist: Path) -> dict[str, bytes]:
    """The files of the source archive."""
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as opened:
        files = [(member.name, opened.extractfile(member)) for member in opened.getmembers()]
        return {name.partition("/")[2]: file.read() for name, file in files if file is not None}


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """What the wheel says of itself."""
    return _metadata(wheel)


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(opened.read(name))


def _description(metadata: Message) -> str:
    payload = metadata.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()


def test_the_wheel_contains_the_package_and_nothing_else(wheel: Path, archive: dict[str, bytes]) -> None:
    """Every file of the package is there as it is in the source; no test, no example, nothing that was made."""
    with zipfile.ZipFile(wheel) as opened:
        content = {name: opened.read(name) for name in opened.namelist() if not name.endswith("/")}
    own = {name: data for name, data in content.items() if ".dist-info/" not in name}
    assert own == {name: data for name, data in archive.items() if name.startswith("canx_flow/")}
    assert set(own) == set(_files(SOURCE / "canx_flow"))
    assert {"py.typed", "migrations", "templates", "static", "locale"} <= {PurePosixPath(name).parts[1] for name in own}
    assert {PurePosixPath(name).suffix for name in own} <= SUFFIXES
    described = {PurePosixPath(name).relative_to(PurePosixPath(name).parts[0]) for name in set(content) - set(own)}
    assert {str(path) for path in described} == {
        *("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }
    (entry_points,) = [data.decode() for name, data in content.items() if name.endswith("/entry_points.txt")]
    assert entry_points.split() == ["[pytest11]", "canx_flow", "=", "canx_flow.pytest_plugin"]


def test_the_metadata_says_what_it_needs_and_what_it_is(metadata: Message, archive: dict[str, bytes]) -> None:
    """Django; the rest is extras. Typed, licensed, described by the README."""
    needed = metadata.get_all("Requires-Dist") or []
    plain = {re.split(r"[ ><=~!;]", line)[0]: line for line in needed if "extra ==" not in line}
    assert set(plain) == {"cronsim", "django"}
    assert set(metadata.get_all("Provides-Extra") or []) == {"postgres", "mysql", "tasks", "celery"}
    assert metadata["License-Expression"] == "MIT"
    assert {"Typing :: Typed", "Framework :: Django :: 5.2"} <= set(metadata.get_all("Classifier") or [])
    assert _description(metadata).startswith(archive["README.md"].decode().partition("[")[0])
    assert "Package, https://pypi.org/project/canx-flow/" in (metadata.get_all("Project-URL") or [])


RELATIVE = re.compile(r"\[[^\]]*\]\((?!https?://)")


def test_every_link_of_the_description_works_on_a_package_index(metadata: Message, archive: dict[str, bytes]) -> None:
    """No link leads to a file beside the README, which is not there; none of its words is lost."""
    readme = archive["README.md"].decode()
    assert RELATIVE.search(readme)
    assert not RELATIVE.search(_description(metadata))
    for words in re.findall(r"\[([^\]]*)\]\((?!https?://)", readme):
        assert words in _description(metadata)
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_one_address_makes_all_links_and_urls(tmp_path: Path, archive: dict[str, bytes]) -> None:
    """With `repository` in pyproject.toml there are five more URLs, and the README's links lead there."""
    home = "https://example.org/canx-flow"
    # PKG-INFO is the archive's own: a checkout has none, and hatchling would read the URLs from it.
    files = [name for name in archive if name != "PKG-INFO"]
    for name in [name for name in files if name.startswith(("canx_flow/", "scripts/")) or "/" not in name]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(archive[name])
    project = tmp_path / "pyproject.toml"
    project.write_text(project.read_text().replace('\nrepository = ""\n', f'\nrepository = "{home}"\n'))
    _run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "dist", tmp_path, cwd=tmp_path)
    (built,) = (tmp_path / "dist").glob("*.whl")
    described = _metadata(built)
    urls = dict(line.split(", ") for line in described.get_all("Project-URL") or [])
    assert urls.keys() == {"Package", "Releases", "Homepage", "Documentation", "Changelog", "Source", "Issues"}
    assert all(url.startswith(home) for name, url in urls.items() if name not in ("Package", "Releases"))
    linked = set(re.findall(rf"\({home}/blob/HEAD/([^)#]+)", _description(described)))
    assert {"docs/tutorial.md", "CHANGELOG.md"} <= linked <= set(archive)


def test_the_source_archive_is_complete(archive: dict[str, bytes]) -> None:
    """Package, tests, docs, shop and scripts: from it everything can be run that can be run from a clone."""
    wanted = {name for folder in FOLDERS for name in _files(SOURCE / folder)}
    assert wanted | set(FILES) <= set(archive) | _ignored()


def _ignored() -> set[str]:
    """Databases and the like, which a developer has beside the tracked files. An archive has no git to ask."""
    if not (SOURCE / ".git").exists():
        return set()
    return set(_run("git", "ls-files", "--others", "--ignored", "--exclude-standard", cwd=SOURCE).stdout.splitlines())


# -- P11 -------------------------------------------------------------------------------------------

WORKFLOWS = """
from canx_flow import workflow


@workflow("greeting")
def greeting(ctx, name):
    text = ctx.step("greet", str.format, "Hello, {}!", name)
    return ctx.step("shout", text.upper)
"""
START = "from shop.workflows import greeting; print(greeting.start('you'))"
RESULT = "from shop.workflows import greeting; print(greeting.status('{0}').state, greeting.result('{0}', timeout=0))"


class Project:
    """A new Django project in an environment that holds the wheel and what that brought along."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        venv.create(folder / "env", with_pip=True)
        self._bin = folder / "env" / "bin"
        self._folder = folder / "site"
        self._folder.mkdir()
        _run(self._bin / "python", "-m", "pip", "install", "--quiet", wheel, cwd=folder)
        _run(self._bin / "django-admin", "startproject", "mysite", ".", cwd=self._folder)
        (self._folder / "shop").mkdir()
        (self._folder / "shop" / "workflows.py").write_text(WORKFLOWS)
        self._settings = self._folder / "mysite" / "settings.py"
        begin = "INSTALLED_APPS = ["
        self._settings.write_text(self._settings.read_text().replace(begin, f"{begin}'canx_flow', 'shop', "))

    def manage(self, *arguments: str) -> str:
        """`manage.py`, every warning of Python's being an error."""
        done = _run(self._bin / "python", "-W", "error", "manage.py", *arguments, cwd=self._folder)
        return done.stdout + done.stderr

    def shell(self, code: str) -> str:
        """The last line that this code prints in `manage.py shell`."""
        return self.manage("shell", "-c", code).splitlines()[-1]

    def packages(self) -> set[str]:
        listed = json.loads(
            _run(self._bin / "python", "-m", "pip", "list", "--format", "json", cwd=self._folder).stdout
        )
        return {package["name"].lower() for package in listed}

    def paste(self, line: str) -> None:
        """Add a line at the end of the settings."""
        with self._settings.open("a") as file:
            file.write(f"\n{line}\n")


def test_p11_a_new_project_lives_on_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """P11: installed into an empty environment, added to a new project: migrate, start, run, complete.

    Nothing else was installed than Django with its own needs. `check` has one thing to say of the settings
    that Django made, and nothing more once the line that it offers was added.
    """
    project = Project(tmp_path, wheel)
    tools = {"pip", "setuptools", "wheel"}
    assert project.packages() - tools == {"canx-flow", "cronsim", "django", "asgiref", "sqlparse"}

    project.manage("migrate", "--verbosity", "0")
    run_id = project.shell(START)
    project.manage("runflowworker", "--burst")
    assert project.shell(RESULT.format(run_id)) == "completed HELLO, YOU!"

    said = project.manage("check", "--database", "default")
    assert set(re.findall(r"\((\S+\.[EW]\d+)\)", said)) == {"canx_flow.W001", "canx_flow.W002"}
    project.paste(re.findall(r"settings: (DATABASES.*)", said)[0])
    assert "no issues" in project.manage("check", "--database", "default")
