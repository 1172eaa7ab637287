"""How much host memory snapshots may take."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

_UNITS = {"": 1, "B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


def memory_limit(setting: float | str, available: Callable[[], int] | None = None) -> int:
    """Bytes for a setting: a number of bytes, "2GB", or a share of the memory that is free now ("25%", 0.25).

    A share is divided by the processes on this machine (`LOCAL_WORLD_SIZE`).

    Raises:
        ValueError: it is none of these.
    """
    text = str(setting).strip().upper()
    match = re.fullmatch(r"([0-9.]+(?:E\+?[0-9]+)?)\s*(%|[KMGT]?I?B?)", text)
    if match is None:
        raise ValueError(f"snapshot_memory must be bytes, '2GB' or '25%', got {setting!r}")
    number, unit = float(match[1]), match[2].replace("I", "")
    if unit == "%" or (unit == "" and number < 1):
        share = number / 100 if unit == "%" else number
        ranks = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1") or 1))
        return int(share * (available or available_memory)() / ranks)
    return int(number * _UNITS[unit if unit in _UNITS else unit + "B"])


def available_memory() -> int:
    """Bytes that this process may still take: what the machine has free, or less where a cgroup says so."""
    free = [2**31]
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = [int(lines["MemAvailable"].split()[0]) * 1024]
    except (OSError, KeyError, ValueError):
        pass
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            free.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):
            continue
    return max(0, min(free))
