"""Every workload by its name, in the order in which they are measured and told."""

from __future__ import annotations

from . import (
    alone,
    awaiting,
    beside,
    broadcasts,
    bulk,
    crowded,
    families,
    flat,
    idle,
    killed,
    latency,
    limited,
    long_runs,
    memory,
    pages,
    partitions,
    pruned,
    resume,
    sleeps,
    stored_bytes,
    tenants,
    throughput,
    ticks,
)  # fmt: skip
from .growth import GROWTH

WORKLOADS = {
    workload.name: workload
    for workload in (
        throughput.WORKLOAD, alone.W2, latency.WORKLOAD, sleeps.WORKLOAD, killed.WORKLOAD, crowded.WORKLOAD,
        families.WORKLOAD, resume.WORKLOAD, alone.W9, alone.W10, awaiting.WORKLOAD, beside.W12, beside.W13, beside.W14,
        bulk.WORKLOAD, memory.WORKLOAD, flat.WORKLOAD, pages.WORKLOAD, broadcasts.WORKLOAD, idle.WORKLOAD,
        pruned.WORKLOAD, limited.WORKLOAD, partitions.WORKLOAD, ticks.WORKLOAD, tenants.WORKLOAD, long_runs.WORKLOAD,
        stored_bytes.WORKLOAD, *GROWTH,
    )
}  # fmt: skip
