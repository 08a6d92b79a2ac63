"""The command line of the benchmarks: `make bench ARGS="w1 --database postgresql --repeat 5"`.

An option that takes several values may be given several times: they add up.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from .book import Options
from .workers import ROOT
from .workload import EVERYWHERE

_FILE = ROOT / ".bench" / "results.json"


def parser(workloads: Mapping[str, str]) -> argparse.ArgumentParser:
    """What may be asked for; `workloads`: name and sentence of each."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description="How fast canx_flow is on this machine.")
    listed = "; ".join(f"{name}: {says}" for name, says in workloads.items())
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=listed)
    parser.add_argument(
        "--database", nargs="+", action="extend", choices=EVERYWHERE, help="only these; all where a workload says so"
    )
    parser.add_argument(
        "--in-flight", nargs="+", action="extend", type=int, metavar="N", help="w1: numbers of runs in flight"
    )
    parser.add_argument("--repeat", type=int, metavar="N", help="repetitions (3)")
    parser.add_argument("--seconds", type=float, metavar="S", help="w1, w19, w21: how long a repetition takes (5)")
    parser.add_argument("--starts", type=int, metavar="N", help="w3: starts in all (300)")
    parser.add_argument("--sleeping", type=int, metavar="N", help="w6: sleeping runs (1,000,000)")
    parser.add_argument(
        "--idle-seconds", type=float, metavar="S", help="w6, w17, w21: how long to look at idle workers (60)"
    )
    parser.add_argument("--minutes", type=float, metavar="M", help="memory: keep the worker busy for so long")
    parser.add_argument(
        "--stored", nargs="+", action="extend", type=int, metavar="N",
        help="w15: runs in the tables, from few to many (10,000 1,000,000); w18: the last of them",
    )  # fmt: skip
    parser.add_argument(
        "--idle-workers", nargs="+", action="extend", type=int, metavar="N", help="w17: numbers of workers (1 64)"
    )
    parser.add_argument("--peers", action="store_true", help="beside Absurd, DBOS and django-absurd: make bench-peers")
    parser.add_argument("--postgres-url", metavar="URL", help="a server instead of a cluster of the benchmark's own")
    parser.add_argument("--output", type=Path, default=_FILE, metavar="FILE", help=f"({_FILE.relative_to(ROOT)})")
    return parser


def options(given: argparse.Namespace) -> Options:
    """Those of the workloads; what was not asked for is as they have it."""
    names = [field.name for field in dataclasses.fields(Options)]
    chosen = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    return Options(**{name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()})
