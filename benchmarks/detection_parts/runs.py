"""Labelled runs, each with the rows that its loop logged: of a corpus folder, and of the gym's traces."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlwatch.guest import Guest
from rlwatch.intake import Intake
from rlwatch.offline.ingest import Log

if TYPE_CHECKING:
    from benchmarks.gym.traces import Trace

WORDS = {
    "entropy_collapse": "entropy",
    "entropy_explosion": "entropy",
    "length_collapse": "length trunc clipped",
    "length_inflation": "length trunc clipped",
    "kl_explosion": "kl",
    "reward_hacking": "reward kl proxy hack",
    "reward_collapse": "reward",
    "loss_nan": "nan finite",
    "grad_spike": "grad",
    "zero_variance": "zero variance reward signal dead degenerate",
    "value_failure": "value critic explained",
    "other": "entropy length reward zero signal dead",
}
"""Label of a corpus -> words, one of which the name of a detector that is right holds."""

GOLD = "gold_score"


@dataclass(frozen=True)
class Run:
    """A labelled run.

    Attributes:
        name, project: its own name, and the project that it is from, as a table may say (of a trace: its trainer).
        failed: whether it is labelled failed; healthy otherwise.
        words: the name of a detector that tells this failure holds one of them.
        onset: the step at which the failure begins.
        steps: the step of every logged row.
        rows: step and metrics of every training step, in the log's own names; non-finite numbers are numbers.
        signal_map: what the project's user would map, canonical name -> key.
        algorithm: in lower case, `grpo` or `ppo`; "" where it is another.
        fault: the label itself, for tables.
    """

    name: str
    project: str
    failed: bool
    steps: list[float]
    rows: list[tuple[int, dict[str, Any]]]
    words: tuple[str, ...] = ()
    onset: float = 0.0
    signal_map: dict[str, str] = field(default_factory=dict)
    algorithm: str = ""
    fault: str = ""


def corpus(folder: Path) -> Iterator[Run]:
    """The runs of `folder/runs.csv` whose label is healthy or failed, with high or medium confidence."""
    with (folder / "runs.csv").open(encoding="utf-8", newline="") as file:
        labels = [row for row in csv.DictReader(file) if row["status"] != "ambiguous" and row["confidence"] != "low"]
    projects = _projects(labels)
    for label in labels:
        yield _labelled(folder / "runs" / f"{label['slug']}.jsonl.gz", label, projects[_prefix(label)])


def _prefix(label: dict[str, str]) -> str:
    return label["slug"].partition("-")[0]


def _projects(labels: list[dict[str, str]]) -> dict[str, str]:
    """A letter and the frameworks for each project: tables are for publication, the names of others' runs are not."""
    frameworks: dict[str, dict[str, None]] = {}
    for label in labels:
        frameworks.setdefault(_prefix(label), {})[label["framework"].partition(" (")[0]] = None
    return {name: f"{chr(ord('A') + i)}: {', '.join(frameworks[name])}" for i, name in enumerate(sorted(frameworks))}


def _labelled(file: Path, label: dict[str, str], project: str) -> Run:
    mapped = dict(pair.split("=", 1) for pair in label["map"].split())
    kinds = [kind for kind in label["failure_types"].split(";") if kind]
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        steps = [float(json.loads(line)["step"]) for line in lines]
    return Run(
        name=label["slug"],
        project=project,
        failed=label["status"] == "failed",
        steps=steps,
        rows=[(row.step, row.metrics) for row in Log(file, mapped)],
        words=tuple(dict.fromkeys(word for kind in kinds for word in WORDS[kind].split())),
        onset=float(label["onset_step"] or 0),
        signal_map=mapped,
        algorithm=next((name for name in ("grpo", "ppo") if name in label["algorithm"].lower()), ""),
        fault=label["failure_types"],
    )


def traces(path: Path | None = None) -> tuple[list[Run], int]:
    """The gym's recorded runs, and how many more are left out because their fault did no harm.

    Which detectors name a fault is said in `gym/faults.py`. Harm is the gym's own measure: the policy is not finite, or
    ends with less than .85 of the true success of the same run without the fault.
    """
    from benchmarks.gym.faults import FAULTS
    from benchmarks.gym.traces import DATA, load

    found = list(load(path or DATA))
    ends = {str(trace.info["key"]): float(trace.info["end"]) for trace in found}
    runs = []
    for trace in found:
        trainer, failed = str(trace.info["trainer"]), trace.onset >= 0
        if failed and not _harmed(trace, ends):
            continue
        rows = [(int(row["step"]), row) for row in trace.rows()]
        fault = f"{trainer}/{trace.label}" if failed else ""
        runs.append(
            Run(
                name=str(trace.info["key"]),
                project=trainer,
                failed=failed,
                steps=[float(step) for step, _ in rows],
                rows=rows,
                words=FAULTS[fault].names if failed else (),
                onset=float(trace.onset),
                algorithm="ppo" if trainer == "ppo" else "grpo",
                fault=fault,
            )
        )
    return runs, len(found) - len(runs)


def _harmed(trace: Trace, ends: Mapping[str, float]) -> bool:
    from benchmarks.gym.cases import Case
    from benchmarks.gym.outcome import HEALTHY

    trainer, label, strength = (str(trace.info["trainer"]), trace.label, float(trace.info["strength"]))
    twin = ends.get(Case(trainer, trace.seed, f"{trainer}/{label}", strength, twin=True).key)
    return bool(trace.info["crashed"]) or twin is None or float(trace.info["end"]) < HEALTHY * twin


def canonical(run: Run) -> list[dict[str, Any]]:
    """The rows for a tool with names of its own: `step`, `signals` by our canonical names with units and signs
    converted (non-finite ones as they came), `components` by reward function, and `rewards` where there are samples.
    """
    intake = Intake(Guest(), run.signal_map)
    found = []
    for step, metrics in run.rows:
        seen, _ = intake.observe(metrics, {}, step)
        row: dict[str, Any] = {"step": step, "signals": {**seen.signals, **seen.nonfinite}}
        row["components"] = {
            key.split("/")[1]: float(value)
            for key, value in metrics.items()
            if key.startswith("rewards/") and key.endswith("/mean") and key.count("/") == 2
        }
        if "rewards" in seen.samples:
            row["rewards"] = seen.samples["rewards"].tolist()
        found.append(row)
    return found


def complain(sentence: str) -> None:
    """A line on stderr."""
    print(sentence, file=sys.stderr, flush=True)
