"""What snapshots cost a raw PyTorch loop, beside the same loop without a guard.

    python benchmarks/snapshots.py

For each size: bytes of a snapshot (weights and AdamW state), its time (median of the last three), how often it is
taken by default, the share of the loop's time that all of them took together, and the memory that the process grew
by once the ring was full (it should not).
"""

from __future__ import annotations

import resource
import statistics
import time

import torch

from rlwatch import Watch

SIZES = {"64 x 2": (64, 2, 64, 3000), "256 x 4": (256, 4, 256, 600), "1024 x 8": (1024, 8, 128, 150)}
"""Name -> width, layers, batch, steps."""


def loop(width: int, layers: int, batch: int, steps: int) -> str:
    """One run; its line of the table."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(*[torch.nn.Linear(width, width) for _ in range(layers)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    watch = Watch(record=False, console=False, on_critical="rollback")
    guard = watch.guard(model, optimizer, snapshot_memory="2GB")
    assert guard.rollback is not None
    snapshots = guard.rollback.snapshots
    data, times = torch.randn(batch, width), []
    full = None
    for step in range(steps):
        begun = time.perf_counter()
        optimizer.zero_grad()
        loss = model(data).square().mean()
        loss.backward()
        if not guard.step(watch.log(step=step, loss=loss, kl=0.01, entropy=1.0)):
            optimizer.step()
        times.append(time.perf_counter() - begun)
        if full is None and len(snapshots.kept) == 8:
            full = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - full if full else 0
    return (
        f"{snapshots.needed / 2**20:>10.1f} MiB {1e3 * statistics.median(times):>9.2f} ms "
        f"{1e3 * statistics.median(snapshots.costs):>9.2f} ms {snapshots.period:>7} rows "
        f"{100 * snapshots.spent / sum(times):>8.2f} % {grown / 1024:>8.1f} MiB"
    )


def main() -> None:
    """The table."""
    print(f"{'model':<10}{'snapshot':>14} {'step':>12} {'snapshot':>12} {'every':>12} {'share':>10} {'growth':>12}")
    for name, size in SIZES.items():
        print(f"{name:<10}{loop(*size)}", flush=True)


if __name__ == "__main__":
    main()
