"""`python -m tests.benchmarks.page [--elsewhere] [FILE …]`: put what was measured into docs/performance.md.

Between its marks; of another machine only what became of the targets, between marks of their own.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.driver_settings"
django.setup()

from . import report  # noqa: E402
from .book import Book  # noqa: E402
from .catalogue import WORKLOADS  # noqa: E402
from .workers import ROOT  # noqa: E402

_PAGE = ROOT / "docs" / "performance.md"


def main(files: list[Path], *, elsewhere: bool) -> int:
    book, facts = Book(), []
    for file in files:
        found = json.loads(file.read_text())
        book.read(found["figures"])
        facts.append(_conditions(found["about"]))
    parts = [*dict.fromkeys(facts), *([] if elsewhere else ["### Targets"]), report.targets(book)]
    for workload in () if elsewhere else WORKLOADS.values():
        if table := report.table(workload, book):
            parts += [f"### {workload.name}: {workload.says}", table]
    text = "\n" + "\n\n".join(parts) + "\n\n"
    name = "measured elsewhere" if elsewhere else "measured"
    marked = re.compile(rf"(?<=<!-- {name}: begin -->\n).*(?=<!-- {name}: end -->)", re.DOTALL)
    _PAGE.write_text(marked.sub(lambda _match: text, _PAGE.read_text()))
    return 0


def _conditions(about: dict[str, Any]) -> str:
    optimized = "" if about["python_optimized"] else " (built without optimizations)"
    return (
        f"Taken {about['at'][:10]} at commit `{(about['commit'] or 'unknown')[:10]}`"
        f"{' and changes' if about['changed_since'] else ''}: {about['cores']} cores ({about['processor']}), "
        f"{about['memory_gb']} GB, {about['system']}, {about['flush_ms']:g} ms for a flush of 8 kB; "
        f"{', '.join(about['databases'].values())}; Python {about['python']}{optimized}, Django {about['django']}, "
        f"psycopg {about['psycopg']}. Cells: median (least-most) of the repetitions."
    )


if __name__ == "__main__":
    names = [name for name in sys.argv[1:] if name != "--elsewhere"]
    files = [Path(name) for name in names] or [ROOT / ".bench" / "results.json"]
    sys.exit(main(files, elsewhere="--elsewhere" in sys.argv[1:]))
