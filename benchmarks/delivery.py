"""Do alerts arrive when the training dies, and what does telling people cost a step? See README.md beside this file.

python benchmarks/delivery.py                       # about 5 minutes
python benchmarks/delivery.py --times 3 --blocks 40 # a quick look
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before NumPy reads them
    os.environ.setdefault(_name, "1")

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # runs from a checkout that is not installed

from delivery_parts import deaths, steps
from overhead_parts.measure import environment


def main() -> int:
    """Run both parts; 1 if an alert did not arrive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, metavar="N", help="deaths of each kind (default 10)")
    parser.add_argument("--blocks", type=int, default=120, metavar="N", help="blocks of 50 steps a case (default 120)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    chosen = parser.parse_args()
    found: dict[str, Any] = {"environment": environment()}
    print("  ".join(f"{name} {value}" for name, value in found["environment"].items() if value is not None))
    found["deaths"] = deaths.measure(chosen.times)
    deaths.show(found["deaths"])
    found["steps"] = steps.measure(chosen.blocks)
    steps.show(found["steps"])
    if chosen.out:
        chosen.out.write_text(json.dumps(found, indent=1) + "\n")
    return int(any(row["arrived"] < row["deaths"] for row in found["deaths"]))


if __name__ == "__main__":
    sys.exit(main())
