"""Statistics of timings, and plain tables."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

PACKAGES = ("rlwatch", "numpy", "pydantic", "torch", "transformers", "trl")


def describe(times: Sequence[Sequence[int]]) -> dict[str, float]:
    """Of `timed.Times`, shape (n, 3): medians, means and 99th percentiles in microseconds.

    `p99_kept_us` is that of the calls during which the system left us the core.
    """
    table = np.asarray(times, dtype=np.float64)
    wall, cpu, taken = table[:, 0] / 1e3, table[:, 1] / 1e3, table[:, 2]
    return {
        "calls": wall.size,
        "median_us": float(np.median(wall)),
        "mean_us": float(wall.mean()),
        "p99_us": float(np.percentile(wall, 99)),
        "p99_kept_us": float(np.percentile(wall[taken == 0], 99)),
        "p999_kept_us": float(np.percentile(wall[taken == 0], 99.9)),
        "taken_share": float((taken > 0).mean()),
        "cpu_median_us": float(np.median(cpu)),
        "cpu_p99_us": float(np.percentile(cpu, 99)),
    }


def interval(values: Array, of: Callable[..., Any] = np.median, resamples: int = 2000, seed: int = 0) -> list[float]:
    """95 % bootstrap interval (percentile method, Efron 1979) of a statistic of independent `values`, shape (n,)."""
    rng = np.random.default_rng(seed)
    drawn = of(values[rng.integers(0, values.size, (resamples, values.size))], axis=1)
    return [float(x) for x in np.percentile(drawn, [2.5, 97.5])]


def verdict(value: float, limit: float | None, *, least: bool = False) -> str:
    """`<= 30 met` or `<= 30 MISSED`; empty without a limit. With `least` the limit is a lower one."""
    if limit is None:
        return ""
    met = value >= limit if least else value <= limit
    return f"{'>=' if least else '<='} {limit:,.6g} {'met' if met else 'MISSED'}"


def print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on stdout; the first column is text, floats get three digits."""
    lines = [[_cell(item) for item in row] for row in rows]
    wide = [max(len(line[i]) for line in [list(head), *lines]) for i in range(len(head))]
    print(f"\n{title}")
    for line in [list(head), *lines]:
        cells = (text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(line, wide, strict=True)))
        print("  " + "  ".join(cells).rstrip())
    sys.stdout.flush()


def _cell(item: Any) -> str:
    if isinstance(item, float):
        return f"{item:,.1f}" if abs(item) >= 10 else f"{item:,.3g}"
    return f"{item:,}" if isinstance(item, int) else str(item)


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        **{name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
