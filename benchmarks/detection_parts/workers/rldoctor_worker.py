"""rldoctor 0.2.0: its LiveMonitor row by row, or `diagnose` on the finished log. INFO is not an alert."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rl_doctor import schema
from rl_doctor.detectors.base import Severity
from rl_doctor.diagnosis import diagnose
from rl_doctor.ingest.base import run_from_records
from rl_doctor.live import LiveMonitor

sys.path.append(str(Path(__file__).parent))
from serving import EVERY, Alert, renamed, serve

NAMES = {
    schema.REWARD_MEAN: ("reward_mean",),
    schema.REWARD_STD: ("reward_std",),
    schema.REWARD_MAX: ("reward_max",),
    schema.REWARD_MIN: ("reward_min",),
    schema.EVAL_SCORE: ("gold_score",),
    schema.ZERO_VAR_GROUP_FRAC: ("frac_reward_zero_std",),
    schema.ADVANTAGE_MEAN: ("advantage_mean",),
    schema.ADVANTAGE_STD: ("advantage_std",),
    schema.ENTROPY: ("entropy",),
    schema.KL: ("kl", "approx_kl"),
    schema.PG_CLIPFRAC: ("clip_fraction",),
    schema.GRAD_NORM: ("grad_norm",),
    schema.LR: ("learning_rate",),
    schema.POLICY_LOSS: ("policy_loss", "loss"),
    schema.RESPONSE_LEN_MEAN: ("response_length_mean",),
    schema.RESPONSE_LEN_MAX: ("response_length_max",),
    schema.RESPONSE_LEN_CLIP_RATIO: ("truncation_rate",),
    schema.VALUE_EXPLAINED_VAR: ("explained_variance",),
    schema.THROUGHPUT: ("tokens_per_second",),
    schema.TIME_PER_STEP: ("step_time",),
}


def judge(run: dict[str, Any], way: str) -> Iterator[Alert]:
    config = {"algorithm": run["algorithm"]} if run["algorithm"] else None
    records = [_record(row) for row in run["rows"]]
    if way == "whole":
        last = run["rows"][-1]["step"]
        for finding in diagnose(run_from_records(records, config=config)).problems:
            if finding.severity >= Severity.WARNING:
                yield last, finding.severity.name.lower(), finding.detector
        return
    monitor = LiveMonitor(config=config, check_every=EVERY, on_finding=lambda _: None)
    for record in records:
        for finding in monitor.log(record, step=record["step"]):
            yield record["step"], finding.severity.name.lower(), finding.detector


def _record(row: dict[str, Any]) -> dict[str, Any]:
    components = {f"rewards/{name}/mean": value for name, value in row["components"].items()}
    return {"step": row["step"], **renamed(row["signals"], NAMES), **components}


if __name__ == "__main__":
    serve(judge, "rldoctor", "0.2.0")
