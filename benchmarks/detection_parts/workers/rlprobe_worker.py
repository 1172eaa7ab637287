"""rlprobe 0.1.0: `diagnose_view` every 25 rows from the 30th on and at the end, as its watcher does, or at the end.

Findings of severity info are not alerts. Numbers that are not finite become its counts of NaN and infinities: its
adapter would drop them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlprobe.doctor.engine import diagnose_view
from rlprobe.doctor.runview import RunView
from rlprobe.schemas import RunManifest, StepRecord

sys.path.append(str(Path(__file__).parent))
from serving import EVERY, Alert, renamed, serve

FIRST_ROWS = 30
SEVERITY = {"warn": "warning", "critical": "critical"}
NAMES = {
    "reward_mean": ("reward_mean",),
    "reward_std": ("reward_std",),
    "reward_min": ("reward_min",),
    "reward_max": ("reward_max",),
    "kl_mean": ("kl", "approx_kl"),
    "entropy_mean": ("entropy",),
    "ratio_mean": ("ratio",),
    "clip_fraction": ("clip_fraction",),
    "adv_mean": ("advantage_mean",),
    "adv_std": ("advantage_std",),
    "group_reward_std_mean": ("group_reward_std",),
    "zero_variance_group_frac": ("frac_reward_zero_std",),
    "value_loss": ("value_loss",),
    "value_explained_variance": ("explained_variance",),
    "value_clip_fraction": ("value_clip_fraction",),
    "loss": ("loss", "policy_loss"),
    "lr": ("learning_rate",),
    "grad_norm": ("grad_norm",),
    "completion_len_mean": ("response_length_mean",),
    "completion_len_max": ("response_length_max",),
    "truncation_rate": ("truncation_rate",),
    "repetition_rate": ("repetition_rate",),
    "step_time_s": ("step_time",),
    "generation_time_s": ("generation_time",),
    "optimization_time_s": ("update_time",),
}


def judge(run: dict[str, Any], way: str) -> Iterator[Alert]:
    manifest = RunManifest(run_id=run["name"], created_at="", algorithm=run["algorithm"] or "unknown")
    records = [_record(row) for row in run["rows"]]
    looks = {len(records)} | (set(range(EVERY, len(records), EVERY)) if way == "live" else set())
    seen: set[tuple[str, str]] = set()
    for rows in sorted(looks):
        if rows < FIRST_ROWS:
            continue
        for finding in diagnose_view(RunView(manifest, records[:rows])):
            new = (finding.signature_id, finding.severity) not in seen
            seen.add((finding.signature_id, finding.severity))
            if new and finding.severity in SEVERITY:
                yield records[rows - 1].step, SEVERITY[finding.severity], finding.signature_id


def _record(row: dict[str, Any]) -> StepRecord:
    values = renamed(row["signals"], NAMES)
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    bad = [value for name, value in values.items() if name in ("loss", "grad_norm") and not math.isfinite(value)]
    nans = sum(math.isnan(value) for value in bad)
    return StepRecord(
        step=row["step"], reward_components=row["components"], nan_count=nans, inf_count=len(bad) - nans, **finite
    )


if __name__ == "__main__":
    serve(judge, "rlprobe", "0.1.0")
