"""What rlwatch costs a training run, measured side by side in one go; see README.md beside this file.

    python benchmarks/overhead.py                                   # log calls, imports, replay
    python benchmarks/overhead.py --peer --memory --trl --out figures.json
    python benchmarks/overhead.py --cuda                            # on a machine with a GPU
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before NumPy and torch read them
    os.environ.setdefault(_name, "1")

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # runs from a checkout that is not installed

from overhead_parts.measure import environment

SECTIONS = {
    "log": ("log_calls", "time of one Watch.log"),
    "imports": ("imports", "time of the import"),
    "memory": ("memory", "memory over many steps"),
    "replay": ("replay", "rows a second of a recorded log"),
    "trl": ("trl_steps", "time of a TRL step with and without the callback"),
    "cuda": ("cuda", "20 CUDA scalars a step, without making the host wait"),
}
DEFAULT = ("log", "imports", "replay")


def options(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (_, what) in SECTIONS.items():
        parser.add_argument(f"--{name}", action="store_true", help=what)
    parser.add_argument("--peer", action="store_true", help="time rlwatch 0.5.1 from PyPI too, in its own environment")
    parser.add_argument("--rounds", type=int, default=5, help="blocks a case of the log section (default 5)")
    parser.add_argument("--memory-steps", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--replay-rows", type=int, default=100_000, metavar="N")
    parser.add_argument("--trl-steps", type=int, default=400, metavar="N")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    return parser.parse_args(given)


def main() -> int:
    """Run the chosen sections; 1 if one of them could not."""
    chosen = options()
    names = [name for name in SECTIONS if getattr(chosen, name)] or list(DEFAULT)
    found: dict[str, Any] = {"environment": environment()}
    print("  ".join(f"{name} {value}" for name, value in found["environment"].items() if value is not None))
    failed = False
    for name in names:
        section = importlib.import_module(f"overhead_parts.{SECTIONS[name][0]}")
        try:
            found[name] = section.measure(chosen)
        except ImportError as error:
            print(f"\n{name}: not measured, {error}")
            failed = True
            continue
        section.show(found[name])
        if chosen.out:
            chosen.out.write_text(json.dumps(found, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
