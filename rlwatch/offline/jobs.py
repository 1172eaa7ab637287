"""The processes of a command, found and ended.

Each inherits `RLWATCH_JOB`, by which it is found again, also when it has a session of its own (the workers of torchrun
have) or its parent is gone. Without /proc only the command's process group is known.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

JOB = "RLWATCH_JOB"

GRACE_S = 10.0
"""Seconds between SIGTERM and SIGKILL."""

KNOWN = Path("/proc/self/environ").exists()
"""Whether processes can be found by the variable."""

_POLL_S = 0.05


def members(folder: Path) -> list[int]:
    """The processes of the command whose folder this is, or lies below it."""
    found = []
    mark = f"{JOB}={folder}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended, or is somebody else's
        if any(one == mark or one.startswith(mark + b"/") for one in variables) and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def end_all(folder: Path, also: Callable[[], bool] = lambda: False) -> int:
    """Ends the processes of a folder's commands, and waits until they are gone and `also` is false; their number."""
    count = len(members(folder))
    for number, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        until = time.monotonic() + patience
        told: set[int] = set()
        try:
            while time.monotonic() < until:
                left = members(folder)
                if not left and not also():
                    return count
                for pid in set(left) - told:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, number)
                told |= set(left)
                time.sleep(_POLL_S)
        except KeyboardInterrupt:  # a second Ctrl-C: no more patience
            continue
    return count


def tell_group(pid: int, number: signal.Signals) -> None:
    """Sends a signal to a process group, if it is there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
