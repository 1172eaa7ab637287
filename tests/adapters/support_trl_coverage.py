"""What each trainer of TRL lets rlwatch judge with its defaults: this file, run, prints the table."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support_coverage import table
from support_trl import SILENT, dpo, grpo, kto, online_dpo, rloo

from rlwatch.adapters.trl import RLWatchCallback
from rlwatch.detectors.coverage import CoverageReport

TRAINERS = {"GRPO": grpo, "RLOO": rloo, "DPO": dpo, "KTO": kto, "OnlineDPO": online_dpo}


def reports() -> dict[str, CoverageReport]:
    """Each trainer's coverage after a real run of 51 steps, when a signal that has not come counts as missing."""
    found = {}
    for name, make in TRAINERS.items():
        callback = RLWatchCallback(**SILENT)
        with tempfile.TemporaryDirectory() as folder:
            make(folder, [callback], steps=51, logging_steps=10).train()
        assert callback.watch is not None
        found[name] = callback.watch.coverage()
    return found


if __name__ == "__main__":
    print(table(reports()))
