"""Look for texts to be translated anew, and compile them: `make messages`. Needs GNU gettext.

canx_flow/locale/<language>/LC_MESSAGES/django.po has what translators write, django.mo what Django reads. A text that
is new stands there with an empty translation, never with a guess; one that is gone, is gone. With --check nothing is
written: the exit status is 1 where the files are not what would be written.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import django
from django.core.management import call_command
from django.core.management.commands import makemessages

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "canx_flow"
LANGUAGES = ("de", "es")
#: Files without lines, so that a change of code changes nothing here; no obsolete texts.
OPTIONS = {"add_location": "file", "no_wrap": True, "no_obsolete": True}


class Command(makemessages.Command):
    """Django's own, without guesses at what a new text may mean, in the order of the source."""

    requires_system_checks: list[str] = []
    msgmerge_options = [*makemessages.Command.msgmerge_options, "--no-fuzzy-matching"]


def extract(package: Path) -> None:
    """Bring the .po files of a copy of the package up to date."""
    before = Path.cwd()
    os.chdir(package)
    try:
        call_command(
            Command(), locale=list(LANGUAGES), add_location="file", no_wrap=True, no_obsolete=True, verbosity=0
        )
    finally:
        os.chdir(before)


def compile_into(po: Path, mo: Path) -> None:
    """Compile one file; what is wrong with it ends the program."""
    msgfmt = shutil.which("msgfmt") or "msgfmt"
    subprocess.run([msgfmt, "--check", "--endianness=little", "--output-file", mo, po], check=True)


def catalogues(package: Path) -> list[Path]:
    return [package / "locale" / language / "LC_MESSAGES" / "django.po" for language in LANGUAGES]


def texts(po: Path) -> str:
    """Return what a file says, without the moment at which it was written."""
    lines = po.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith('"POT-Creation-Date:'))


def renew(package: Path) -> None:
    """Extract and compile in place; a file in which only the moment would change is left as it is."""
    kept = {po: po.read_text(encoding="utf-8") for po in catalogues(package) if po.exists()}
    said = {po: texts(po) for po in kept}
    extract(package)
    for po in catalogues(package):
        if po in kept and texts(po) == said[po]:
            po.write_text(kept[po], encoding="utf-8")
        compile_into(po, po.with_suffix(".mo"))


def outdated() -> list[str]:
    """Return what is not as it would be written: names of files."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / PACKAGE.name
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        renew(copy)
        found = []
        for ours, theirs in zip(catalogues(PACKAGE), catalogues(copy), strict=True):
            for suffix in (".po", ".mo"):
                here, there = ours.with_suffix(suffix), theirs.with_suffix(suffix)
                if not here.exists() or here.read_bytes() != there.read_bytes():
                    found.append(here.relative_to(ROOT).as_posix())
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if something would be written")
    django.setup()
    if not parser.parse_args().check:
        renew(PACKAGE)
    elif old := outdated():
        sys.exit(f"not up to date, call `make messages`: {', '.join(old)}")


if __name__ == "__main__":
    from django.conf import settings

    settings.configure(INSTALLED_APPS=[], USE_I18N=True)
    main()
