"""What an import costs a fresh interpreter."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from overhead_parts.measure import print_table, verdict
from overhead_parts.peer import PACKAGE, environment

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 15
BARE, BASE, FACE, WATCH = "bare interpreter", "import numpy, pydantic", "import rlwatch", "Watch(...)"
COMMANDS = {
    BARE: "pass",
    BASE: "import numpy, pydantic",
    "the same and a model": "import numpy, pydantic\nclass A(pydantic.BaseModel): x: int = pydantic.Field(1, ge=0)",
    FACE: "import rlwatch",
    WATCH: "from rlwatch import Watch; Watch(record=False, console=False)",
}


def measure(options: Any) -> dict[str, Any]:
    """Wall and processor milliseconds of each command, by turns; medians of 15."""
    arms = {name: [sys.executable, "-c", code] for name, code in COMMANDS.items()}
    why = ""
    if options.peer:
        python, why = environment()
        if python is not None:
            arms[f"{PACKAGE}: bare"] = [str(python), "-I", "-c", "pass"]
            arms[f"{PACKAGE}: import"] = [str(python), "-I", "-c", "import rlwatch"]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for turn in range(ROUNDS + 1):
        for name, command in arms.items():
            spent = _spent(command)
            if turn:  # the first one writes bytecode and warms the disk's cache
                times[name].append(spent)
    medians = {name: np.median(spent, axis=0).tolist() for name, spent in times.items()}
    return {"median_ms": medians, "why": why}


def _spent(command: list[str]) -> tuple[float, float]:
    """Wall and processor time of a process in milliseconds."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    # An installed package has its bytecode beside it; without, every start would compile ours and nobody else's.
    asked = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, start = _processor(), time.perf_counter()
    subprocess.run(command, check=True, env={**asked, "PYTHONPATH": path})
    wall = time.perf_counter() - start
    return 1e3 * wall, 1e3 * (_processor() - before)


def _processor() -> float:
    """Seconds that children which have ended spent."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    found = result["median_ms"]
    bare, base = found[BARE], found[BASE]
    peer_bare = found.get(f"{PACKAGE}: bare")
    lines = []
    for name, (wall, spent) in found.items():
        start = peer_bare if name.startswith(PACKAGE) and peer_bare else bare
        more = (wall - start[0], spent - start[1])
        limit = 250.0 if name in (FACE, WATCH) else None
        lines.append((name, wall, spent, *more, *(verdict(one, limit) for one in more)))
    more = tuple(ours - theirs for ours, theirs in zip(found[WATCH], base, strict=True))
    lines.append(("Watch(...), less numpy and pydantic", *more, *more, *(verdict(one, 60.0) for one in more)))
    head = ("", "wall ms", "cpu ms", "over bare: wall", "cpu", "wall", "cpu")
    print_table(f"Import in a fresh interpreter, medians of {ROUNDS}", head, lines)
    if result["why"]:
        print(f"  {result['why']}")
