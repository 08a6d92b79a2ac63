"""`python -m tests.benchmarks [w1 w3 …]`, or `make bench`: measure, print tables and targets, write a JSON file."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.driver_settings"
django.setup()

from . import report  # noqa: E402
from .about import about  # noqa: E402
from .arguments import options, parser  # noqa: E402
from .book import Book  # noqa: E402
from .catalogue import WORKLOADS  # noqa: E402
from .installed import MISSING, found_places  # noqa: E402
from .peers import peers_for  # noqa: E402
from .places import Place  # noqa: E402
from .workload import ALL, Workload  # noqa: E402


def main() -> int:
    given = parser({name: workload.says for name, workload in WORKLOADS.items()}).parse_args()
    # Whatever ends the benchmark, its server and its workers end with it, and what it has measured is told.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    chosen = [WORKLOADS[name] for name in given.workloads] or [one for one in WORKLOADS.values() if not one.on_request]
    book = Book(options(given), on_row=report.told_at_once)
    facts = {**about(), "databases": {}}
    complaints: list[str] = []
    try:
        _measure_all(given, chosen, book, facts, complaints)
    finally:
        _tell(given.output, chosen, book, facts)
        print(*complaints, sep="\n")
    return 1 if complaints else 0


def _measure_all(
    given: argparse.Namespace, chosen: list[Workload], book: Book, facts: dict[str, Any], complaints: list[str]
) -> None:
    places = found_places(given.postgres_url)
    for name in dict.fromkeys(given.database or ALL):
        workloads = [workload for workload in chosen if given.database or name in workload.databases]
        if workloads and name not in places:
            complaints.append(f"{name} was not measured: {MISSING[name]}")
        elif workloads:
            _measure(places[name], workloads, book, facts, complaints, with_peers=given.peers)


def _measure(
    place: Place, workloads: list[Workload], book: Book, facts: dict[str, Any], complaints: list[str], *,
    with_peers: bool,
) -> None:  # fmt: skip
    """Every workload on one database. One that breaks does not cost the others."""
    place.open()
    try:
        facts["databases"][place.name] = place.version()
        for workload in workloads:
            try:
                workload.measure(place, book, peers_for(place) if with_peers else ())
            except Exception as error:  # noqa: BLE001 - it is told, and the others go on
                traceback.print_exc()
                complaints.append(f"{workload.name} on {place.name} broke: {error}")
    finally:
        place.close()


def _tell(output: Path, chosen: list[Workload], book: Book, facts: dict[str, Any]) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    found = {"about": facts, "options": dataclasses.asdict(book.options), "figures": book.as_json()}
    output.write_text(json.dumps(found, indent=1) + "\n")
    for workload in chosen:
        if table := report.table(workload, book):
            print(f"\n{workload.name}: {workload.says}\n{table}")
    if table := report.targets(book):
        print(f"\nTargets\n{table}")
    print(f"\n{output.name} has every repetition.")


if __name__ == "__main__":
    sys.exit(main())
