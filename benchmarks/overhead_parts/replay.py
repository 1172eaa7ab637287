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
    """Rows a second of wall and of processor time, medians of 3 rounds.

    Reading alone, `Watch.log` alone, and both as `rlwatch scan` does.
    """
    table = rows.scalars(options.replay_rows)
    rates: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        with path.open("w") as file:
            file.writelines(json.dumps({"step": step, **row}) + "\n" for step, row in enumerate(table))
        for _ in range(ROUNDS):
            for name, run in (("json.loads of each line", _parse), ("replay (rlwatch scan)", _replay)):
                rates.setdefault(name, []).append(_rates(len(table), run, path))
            rates.setdefault("Watch.log, not recorded", []).append(_rates(len(table), _log, table))
    medians = {name: np.median(found, axis=0).tolist() for name, found in rates.items()}
    return {"rows": len(table), "rows_per_second": medians}


def _rates(rows: int, run: Any, given: Any) -> tuple[float, float]:
    used, start = time.process_time(), time.perf_counter()
    run(given)
    return rows / (time.perf_counter() - start), rows / (time.process_time() - used)


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
    lines = [
        (name, int(wall), int(core), 1e6 / core, *(verdict(rate, limits[name], least=True) for rate in (wall, core)))
        for name, (wall, core) in found.items()
    ]
    title = f"Replay of {result['rows']:,} rows of 20 scalars, all detectors"
    print_table(title, ("", "rows/s", "rows/s of a core", "us a row", "wall", "of a core"), lines)
