"""Shared by the workers, which run in the other packages' environments: no import but the standard library's.

A worker gets a run a line on stdin, `{"name", "algorithm", "rows": [{"step", "signals", "components", "rewards"?}]}`,
and answers `{"name", "alerts": [[step, severity, detector], ...], "error"}` on stdout. Non-finite numbers are JSON as
Python writes it. The first argument is the way of using the package.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

Row = dict[str, Any]
Alert = tuple[float, str, str]
EVERY = 25
"""Rows between two looks of the live monitors of rldoctor and rlprobe: the default of both."""


def serve(judge: Callable[[dict[str, Any], str], Iterator[Alert]], package: str, wanted: str) -> None:
    """Judge every run; what the package raises ends the run, and what it said before counts."""
    if (found := version(package)) != wanted:
        sys.exit(f"{package} {found} is installed, not {wanted}")
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        run = json.loads(line)
        alerts: list[Alert] = []
        error = ""
        try:
            alerts.extend(judge(run, sys.argv[1]))
        except Exception as raised:  # noqa: BLE001 - it is what the comparison reports
            error = f"{type(raised).__name__}: {raised}"
        answers.write(json.dumps({"name": run["name"], "alerts": alerts, "error": error}) + "\n")
        answers.flush()


def renamed(signals: dict[str, float], names: dict[str, tuple[str, ...]]) -> dict[str, float]:
    """The package's names -> the value of the first of our signals that the row has."""
    found = {}
    for theirs, ours in names.items():
        value = next((signals[name] for name in ours if name in signals), None)
        if value is not None:
            found[theirs] = value
    return found
