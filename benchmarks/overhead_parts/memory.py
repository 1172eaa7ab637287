"""Whether memory stays flat over a million steps."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from overhead_parts import rows
from overhead_parts.measure import print_table

SAMPLE = 50_000  # steps between two looks at the memory
SETTLED = 100_000  # steps after which memory must not grow
TROUBLE = 20_000  # steps from one NaN loss to the next: alerts and incidents are part of a long run
FLAT = 4.0  # bytes a step: 4 MB over a million


def measure(options: Any) -> dict[str, Any]:
    """Resident memory and living Python blocks over `--memory-steps` steps in a process of its own."""
    if not Path("/proc/self/statm").exists():
        return {"why": "needs /proc/self/statm"}
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run, (options.memory_steps,))


def run(steps: int) -> dict[str, Any]:
    """20 scalars and 32 rewards a step, recorded, a NaN now and then."""
    from rlwatch import Watch

    table = [{**row, "rewards": batch} for row, batch in zip(rows.scalars(1000), rows.rewards(1000, 32), strict=True)]
    bad = {**table[0], "loss": math.nan}
    samples = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        watch = Watch(console=False, report=False, runs_dir=folder)
        start = time.perf_counter()
        for step in range(steps):
            watch.log(bad if step % TROUBLE == TROUBLE - 1 else table[step % 1000], step=step)
            if (step + 1) % SAMPLE == 0:
                samples.append([step + 1, _resident(), sys.getallocatedblocks()])
        seconds = time.perf_counter() - start
        alerts, folder_of_run = watch.counts, watch.run_dir
        watch.close()
        recorded = sum(1 for _ in (folder_of_run / "steps.jsonl").open("rb")) if folder_of_run else 0
    return {"steps": steps, "samples": samples, "seconds": seconds, "alerts": alerts, "recorded": recorded}


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def show(result: dict[str, Any]) -> None:
    """Print the samples and the slope after the first 100,000 steps."""
    if "why" in result:
        print(f"\nMemory: {result['why']}")
        return
    samples = np.array(result["samples"], dtype=float)
    late = samples[samples[:, 0] >= SETTLED]
    shown = samples[:: max(1, len(samples) // 8)]
    lines = [(int(step), resident / 2**20, int(blocks)) for step, resident, blocks in shown]
    print_table("Memory: 20 scalars and 32 rewards a step, recorded", ("step", "resident MiB", "Python blocks"), lines)
    if len(late) < 3:
        print("  too few steps for a slope")
        return
    slope = float(np.polyfit(late[:, 0], late[:, 1], 1)[0])
    blocks = float(np.polyfit(late[:, 0], late[:, 2], 1)[0])
    flat = "flat" if slope < FLAT else "GROWS"
    print(f"  after {SETTLED:,} steps: {slope:+.2f} bytes and {1000 * blocks:+.2f} / 1,000 blocks a step: {flat}")
    print(
        f"  {result['steps'] / result['seconds']:,.0f} steps/s; {result['recorded']:,} of {result['steps']:,} rows "
        f"recorded; alerts {result['alerts']}"
    )
