"""`python -m tests.benchmarks.page [FILE …]`: put what was measured into docs/performance.md, between its marks."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
django.setup()

from . import report  # noqa: E402
from .book import Book  # noqa: E402
from .catalogue import WORKLOADS  # noqa: E402
from .workers import ROOT  # noqa: E402

_PAGE = ROOT / "docs" / "performance.md"
_MARKED = re.compile(r"(?<=<!-- measured: begin -->\n).*(?=<!-- measured: end -->)", re.DOTALL)


def main(files: list[Path]) -> int:
    book, facts = Book(), []
    for file in files:
        found = json.loads(file.read_text())
        book.read(found["figures"])
        facts.append(_conditions(found["about"]))
    parts = [*dict.fromkeys(facts), "### Targets", report.targets(book)]
    for workload in WORKLOADS.values():
        if table := report.table(workload, book):
            parts += [f"### {workload.name}: {workload.says}", table]
    text = "\n" + "\n\n".join(parts) + "\n\n"
    _PAGE.write_text(_MARKED.sub(lambda _match: text, _PAGE.read_text()))
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
    sys.exit(main([Path(name) for name in sys.argv[1:]] or [ROOT / ".bench" / "results.json"]))
