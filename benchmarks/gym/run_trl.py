"""One run in TRL: the callback does all of the watching, and the gym only breaks the trainer and measures it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.gym.cases import Case
from benchmarks.gym.faults import FAULTS
from benchmarks.gym.run import EVALUATE_EVERY, Result, settings_of
from benchmarks.gym.with_trl import TrlConfig, TrlTrainer
from rlwatch import Verdict, Watch
from rlwatch.adapters.trl import RLWatchCallback


class _Kept(Watch):
    """A Watch that keeps the rows it was given."""

    rows_kept: list[dict[str, Any]]

    def log(self, metrics: Mapping[str, Any] | None = None, *, step: int | None = None, **signals: Any) -> Verdict:
        row = {**(metrics or {}), **signals}
        self.rows_kept.append({"step": step, **row})
        return super().log(metrics, step=step, **signals)


def play_trl(case: Case) -> tuple[Result, list[dict[str, Any]]]:
    """Run a case to its end, its halt or its crash; the result, and the rows that the callback made."""
    torch.set_num_threads(1)
    config = case.config
    assert isinstance(config, TrlConfig)
    result = Result(case.key, asdict(case), asdict(config), case.onset, config.steps)
    watch = _Kept("grpo", **settings_of(case))
    watch.rows_kept = []
    trainer = TrlTrainer(config, _schedule(case), [RLWatchCallback(watch=watch)])
    trainer.at_step = _Steps(case, trainer, result, watch)
    try:
        trainer.train()
    except RuntimeError as error:  # sampling from NaN probabilities: what the weights did to the unwatched run
        if "probability tensor" not in str(error):
            raise
        result.crashed = str(error).splitlines()[0]
    result.last = trainer.trainer.state.global_step - 1
    result.notes = [[event["step"] - 1, event["message"]] for event in watch.events]
    if case.mode != "none" and result.last + 1 < config.steps:
        result.halted = result.last
    for alert in watch.alerts:
        kept = {"step": alert.step - 1, "detector": alert.detector, "severity": alert.severity.value}
        result.alerts.append({**kept, "message": alert.message})
    result.finite &= all(bool(value.isfinite().all()) for value in trainer.model.parameters())
    result.end = round(trainer.success(), 4)
    for row in watch.rows_kept:
        row["step"] -= 1  # TRL counts from 1
    return result, watch.rows_kept


class _Steps:
    """What happens before an optimizer step: the fault begins or ends, true success is measured."""

    def __init__(self, case: Case, trainer: TrlTrainer, result: Result, watch: Watch) -> None:
        self.case, self.trainer, self.result, self.watch = case, trainer, result, watch
        self.fault = FAULTS[case.fault] if case.broken else None
        self._learned = 0.0
        self._learned_by: dict[int, float] = {}

    def __call__(self, step: int) -> None:
        fault, trainer = self.fault, self.trainer
        self._count(step)
        if fault is not None and step == self.case.onset:
            fault.start(trainer, self.case.strength)
        if fault is not None and fault.stop is not None and step == self.case.onset + (fault.lasting or 0):
            fault.stop(trainer)
        self.result.finite &= all(bool(value.isfinite().all()) for value in trainer.model.parameters())
        if step % EVALUATE_EVERY == 0:
            score = trainer.success()
            trainer.log("gold_score", score)
            self.result.gold.append([step, round(score, 4)])

    def _count(self, step: int) -> None:
        """What the policy is made of: the update that comes next counts by its learning rate (`Result.learned`)."""
        went = [event for event in self.watch.events if event["event"] == "rollback"]
        for event in went[len(self.result.restored) :]:
            to_step = event["to_step"] - 1
            self.result.restored.append([event["step"] - 1, to_step])
            self._learned = self._learned_by.get(to_step, 0.0)
        self._learned_by[step] = self._learned
        rate = self.trainer.trainer.optimizer.param_groups[0]["lr"]
        self._learned += min(1.0, rate / self.case.config.lr)
        self.result.learned = round(self._learned, 2)


def _schedule(case: Case) -> Any:
    fault = FAULTS.get(case.fault)
    if fault is None or not fault.schedule or not case.broken:
        return lambda update: 1.0
    onset, strength = case.onset, case.strength
    return lambda update: strength if update >= onset else 1.0
