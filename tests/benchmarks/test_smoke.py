"""The benchmark still runs. What it measures here, on a busy machine and in a moment, says nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
WORKLOADS = {
    "runs": ["w1", "w2", "w3", "w4", "w5", "w7", "w12", "w13", "w14", "w15", "pages", "w18", "long"],
    "queues": ["w19", "w20", "w21", "w22"],
}
SMALLEST = ["--database", "sqlite-normal", "--in-flight", "4", "--repeat", "1", "--seconds", "0", "--starts", "3"]
FEW = ["--stored", "200", "400", "--idle-seconds", "0.2"]


@pytest.mark.once
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="its meters read /proc")
@pytest.mark.parametrize("workloads", WORKLOADS.values(), ids=WORKLOADS)
def test_the_benchmark_runs(workloads: list[str], tmp_path: Path) -> None:
    """A few workloads at their smallest end well, and leave a file with every figure and a word on the machine."""
    output = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *workloads, *SMALLEST, *FEW, "--output", str(output)],
        cwd=ROOT, env={**os.environ, "BENCH_FOLDER": str(tmp_path)}, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())
    assert {one["workload"] for one in found["figures"]} == set(workloads)
    assert found["about"]["databases"].keys() == {"sqlite-normal"}
