"""Copy everything but the package into an empty folder: there the tests can only import the installed one.

    python scripts/copy_suite.py FOLDER

Called by tox before each suite. What git ignores and what lies hidden at the top stays behind.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ["docs", "scripts", "testproject", "tests"]
FILES = ["*.md", "*.toml", "LICENSE", "Makefile"]
MADE = shutil.ignore_patterns("__pycache__", "_build", "*.sqlite3*", ".env")


def main(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, target / name, ignore=MADE)
    for pattern in FILES:
        for path in ROOT.glob(pattern):
            shutil.copy2(path, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
