"""How fast a recorded log goes through the detectors."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from overhead_parts import rows
from overhead_parts.measure import print_table, verdict

ROUNDS = 3


def measure(options: Any) -> dict[str, Any]:
    """Rows a second: reading only, `Watch.log` only, and both as `rlwatch scan` does; medians of 3 rounds."""
    table = rows.scalars(options.replay_rows)
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        with path.open("w") as file:
            file.writelines(json.dumps({"step": step, **row}) + "\n" for step, row in enumerate(table))
        for _ in range(ROUNDS):
            for name, run in (("json.loads of each line", _parse), ("replay (rlwatch scan)", _replay)):
                rates.setdefault(name, []).append(len(table) / _seconds(run, path))
            rates.setdefault("Watch.log, not recorded", []).append(len(table) / _seconds(_log, table))
    return {"rows": len(table), "rows_per_second": {name: float(np.median(found)) for name, found in rates.items()}}


def _seconds(run: Any, given: Any) -> float:
    start = time.perf_counter()
    run(given)
    return time.perf_counter() - start


def _parse(path: Path) -> None:
    with path.open() as file:
        for line in file:
            json.loads(line)


def _replay(path: Path) -> None:
    from rlwatch.offline.replay import replay

    done = replay(path)
    if done.error:
        raise RuntimeError(done.error)


def _log(table: list[dict[str, Any]]) -> None:
    from rlwatch import Watch

    with Watch(record=False, console=False) as watch:
        for step, row in enumerate(table):
            watch.log(row, step=step)


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    found = result["rows_per_second"]
    limits = {name: None if name.startswith("json") else 30_000.0 for name in found}
    lines = [(name, int(rate), 1e6 / rate, verdict(rate, limits[name], least=True)) for name, rate in found.items()]
    title = f"Replay of {result['rows']:,} rows of 20 scalars, all detectors"
    print_table(title, ("", "rows/s", "us a row", "rows/s"), lines)
