"""Runs in the other package's environment: takes rows on stdin, gives the time of each `log_step` on stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import rlwatch

sys.path.append(str(Path(__file__).parent))

from timed import Timed, Times


class Monitor:
    """One monitor with a database of its own, and the rows that it is given in a circle."""

    def __init__(self, name: str, rows: list[dict[str, Any]]) -> None:
        log_step = rlwatch.attach(
            framework="manual", run_id=name, storage={"log_dir": name}, alerts={"max_alerts_per_run": 0}
        ).log_step
        for row in rows:
            if "rewards" in row:
                row["rewards"] = np.asarray(row["rewards"])
        self._rows = rows
        self._next = 0
        self._timed = Timed(lambda row: log_step(**row))

    def block(self, calls: int, paced: bool) -> Times:
        """Time the next calls."""
        rows = [{"step": i, **self._rows[i % len(self._rows)]} for i in range(self._next, self._next + calls)]
        self._next += calls
        return self._timed(rows, paced)


def main() -> None:
    """Answer requests until stdin ends."""
    monitors: dict[str, Monitor] = {}
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        answer: Any = True
        if "rows" in request:
            monitors[request["name"]] = Monitor(request["name"], request["rows"])
        elif "calls" in request:
            answer = monitors[request["name"]].block(request["calls"], request["paced"])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
