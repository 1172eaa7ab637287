"""One run: the loop that a user would write, with the watchdog's two lines in it, and what is kept of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.gym.cases import PRESETS, Case
from benchmarks.gym.faults import FAULTS
from benchmarks.gym.grpo import GrpoTrainer
from benchmarks.gym.guarding import guard_of
from benchmarks.gym.ppo import PpoTrainer
from rlwatch import Verdict, Watch
from rlwatch.adapters.pytorch import Guard

EVALUATE_EVERY = 10
"""Steps between two measurements of true success, which are logged as `gold_score`."""

Trainer = GrpoTrainer | PpoTrainer


@dataclass
class Result:
    """What is kept of a run. Steps count optimizer steps (GRPO) or iterations (PPO)."""

    key: str
    case: dict[str, Any]
    config: dict[str, Any]
    onset: int
    steps: int
    end: float = 0.0
    """True success of the final policy, 0 to 1."""
    finite: bool = True
    """No weight was ever NaN or infinite."""
    crashed: str = ""
    halted: int | None = None
    last: int = -1
    gold: list[list[float]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    withheld: list[int] = field(default_factory=list)
    """Steps at which the guard withheld the update or went back."""
    restored: list[list[int]] = field(default_factory=list)
    """Rollbacks: at which step, and to the weights of which step."""
    notes: list[list[Any]] = field(default_factory=list)
    """What the watchdog did, by step, in its own words."""
    learned: float | None = None
    """Updates that the final policy is made of, each weighted by its learning rate over the one that the run was to
    have there, at most 1; None: all."""
    step_ms: float = 0.0
    watch_ms: float = 0.0
    """Medians a row: the whole step, and the watchdog's part of it."""


class Tape:
    """Keeps what a run logs, times the watchdog, and looks after the weights."""

    def __init__(self, trainer: Trainer, result: Result) -> None:
        self.trainer, self.result = trainer, result
        self.rows: list[dict[str, Any]] = []
        self.step_times: list[float] = []
        self.watch_times: list[float] = []
        self._weights: torch.Tensor | None = None
        self._learned = 0.0
        self._learned_by: dict[int, float] = {}
        self._evaluated = -EVALUATE_EVERY
        self._clock = time.perf_counter()

    def complete(self, step: int, row: dict[str, Any]) -> dict[str, Any]:
        """The row with what the loop measures itself: sizes of the update and the weights, sparse true success."""
        weights = torch.nn.utils.parameters_to_vector(self.trainer.model.parameters()).detach().clone()
        row["weight_norm"] = float(weights.norm())
        self.result.finite &= bool(np.isfinite(row["weight_norm"]))
        if self._weights is not None:
            row["update_norm"] = float((weights - self._weights).norm())
        self._weights = weights
        if step >= self._evaluated + EVALUATE_EVERY:
            self._evaluated = step
            row["gold_score"] = self.trainer.success()
            self.result.gold.append([step, round(row["gold_score"], 4)])
        self.rows.append({"step": step, **row})
        self._learned_by[step] = self._learned
        return row

    def judged(self, verdict: Verdict, watched: float) -> None:
        """Note what was said and what it cost."""
        now = time.perf_counter()
        self.step_times.append(now - self._clock)
        self.watch_times.append(watched)
        self._clock = now
        for alert in verdict.alerts:
            kept = {"step": alert.step, "detector": alert.detector, "severity": alert.severity.value}
            self.result.alerts.append({**kept, "message": alert.message})

    def updates(self) -> None:
        """The update comes next."""
        self._learned += min(1.0, self.trainer.rate_kept())
        self.result.learned = round(self._learned, 2)

    def withheld(self, step: int, guard: Guard | None) -> None:
        """The update was withheld, or the run taken back; the next change of the weights is not an update."""
        self.result.withheld.append(step)
        self._weights = None
        done = guard.rollback.history.done if guard is not None and guard.rollback is not None else []
        if len(done) > len(self.result.restored):
            self.result.restored.append([step, done[-1].to_step])
            self._learned = self._learned_by.get(done[-1].to_step, 0.0)
            self.trainer.sync()


def play(case: Case) -> tuple[Result, list[dict[str, Any]]]:
    """Run a case to its end, its halt or its crash; the result, and the rows that were logged."""
    torch.set_num_threads(1)
    config = case.config
    result = Result(case.key, asdict(case), asdict(config), case.onset, config.steps)
    trainer = _trainer(case, config)
    tape = Tape(trainer, result)
    with Watch(PRESETS[case.trainer], **settings_of(case)) as watch:
        try:
            _loop(trainer, watch, case, tape)
        except RuntimeError as error:  # sampling from NaN probabilities: what the weights did to the unwatched run
            if "probability tensor" not in str(error):
                raise
            result.crashed = str(error).splitlines()[0]
    _finish(tape)
    return result, tape.rows


def _loop(trainer: Trainer, watch: Watch, case: Case, tape: Tape) -> None:
    guard = guard_of(watch, trainer, case.mode)
    result = tape.result
    for first in _breaking(trainer, case):
        for i, row in enumerate(trainer.steps(first)):
            step = result.last = first + i
            row = tape.complete(step, row)
            start = time.perf_counter()
            verdict = watch.log(row, step=step)
            withheld = guard is not None and guard.step(verdict)
            tape.judged(verdict, time.perf_counter() - start)
            if verdict.note:
                result.notes.append([step, verdict.note])
            if withheld:
                tape.withheld(step, guard)
                break
            if guard is not None and verdict.halt:
                result.halted = step
                return
            tape.updates()


def _breaking(trainer: Trainer, case: Case) -> Iterator[int]:
    """The first step of each batch; the fault begins and ends on the way."""
    fault = FAULTS[case.fault] if case.broken else None
    waiting = fault is not None
    batches = 0
    for step in trainer.batches():
        if fault is not None and waiting and step >= case.onset:
            fault.start(trainer, case.strength)
            waiting = False
        elif fault is not None and not waiting:
            batches += 1
            if fault.stop is not None and batches == fault.lasting:
                fault.stop(trainer)
        yield step


def _trainer(case: Case, config: Any) -> Trainer:
    fault = FAULTS.get(case.fault)
    onset = case.onset

    def schedule(update: int) -> float:
        return case.strength if update >= onset else 1.0

    kind = GrpoTrainer if case.trainer == "grpo" else PpoTrainer
    trainer: Trainer = kind(config, schedule) if fault and fault.schedule and case.broken else kind(config)
    if fault and fault.prepare:
        fault.prepare(trainer, case.strength)
    return trainer


def settings_of(case: Case) -> dict[str, Any]:
    """The watchdog's settings; without a mode it only looks on."""
    looks_on = case.mode == "none"
    return {
        "on_critical": "continue" if looks_on else case.mode,
        "on_nonfinite": "continue" if looks_on else "skip",
        "catalogue": "full",
        "record": False,
        "console": False,
    }


def _finish(tape: Tape) -> None:
    result, trainer = tape.result, tape.trainer
    weights = torch.nn.utils.parameters_to_vector(trainer.model.parameters()).detach()
    result.finite &= bool(weights.isfinite().all())
    with contextlib.suppress(RuntimeError):
        result.end = round(trainer.success(), 4)
    result.step_ms = round(1e3 * float(np.median(tape.step_times)), 3)
    result.watch_ms = round(1e3 * float(np.median(tape.watch_times)), 3)
