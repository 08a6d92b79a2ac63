"""Every workload by its name, in the order in which they are measured and told."""

from __future__ import annotations

from . import (
    alone,
    awaiting,
    broadcasts,
    bulk,
    crowded,
    flat,
    idle,
    killed,
    latency,
    long_runs,
    memory,
    pruned,
    resume,
    sleeps,
    throughput,
)  # fmt: skip
from .growth import GROWTH

WORKLOADS = {
    workload.name: workload
    for workload in (
        throughput.WORKLOAD, alone.W2, latency.WORKLOAD, sleeps.WORKLOAD, killed.WORKLOAD, crowded.WORKLOAD,
        resume.WORKLOAD, alone.W9, alone.W10, awaiting.WORKLOAD, bulk.WORKLOAD, memory.WORKLOAD,
        flat.WORKLOAD, broadcasts.WORKLOAD, idle.WORKLOAD, pruned.WORKLOAD, long_runs.WORKLOAD, *GROWTH,
    )
}  # fmt: skip
