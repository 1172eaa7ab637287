"""What a result means: whether the policy is healthy, what was lost, and how early the watchdog was.

Success is the true task's (`Result.end`, `Result.gold`), never the reward. The twin is the same run without the fault.

- healthy end: finite weights, and success at least `HEALTHY` times what the twin had after as much learning, and `KEPT`
  times what the run itself had at the onset. Unwatched as much learning is the twin's end. A rollback costs updates,
  and its remedy may lower the learning rate: what the final policy was made of is counted (`Result.learned`), an update
  at a fifth of the rate as a fifth, and at most as one.
- kept: finite weights, and success at least `KEPT` times what it was at the onset: nothing was lost, though the run
  may be unfinished.
- point of no return: the last measurement after the onset at which the unwatched run still had `KEPT` of its success at
  the onset; None if it never falls below. Lead: its distance from the first alert, in steps.
- wasted steps: those that did not end in the final policy. Unwatched: all from the onset, if the end is not healthy.
  Halted: from the onset to the halt. Rolled back, with a healthy end: those taken back or withheld; else also all that
  came after the onset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.gym.faults import FAULTS
from benchmarks.gym.run import Result

HEALTHY = 0.85
KEPT = 0.9


@dataclass(frozen=True)
class Outcome:
    """One faulty run, judged against its twin."""

    result: Result
    twin: Result

    @property
    def curable(self) -> bool:
        """Whether going back and a first remedy can save such a run."""
        return FAULTS[self.result.case["fault"]].curable

    @property
    def healthy(self) -> bool:
        enough = self.result.end >= HEALTHY * min(self.twin.end, self.twin_as_learned)
        return enough and self.result.finite and (self.kept or not self.result.restored)

    @property
    def twin_as_learned(self) -> float:
        """The twin's success after as many updates as the final policy is made of; between measurements, linearly."""
        steps, values = zip(*[*self.twin.gold, [self.twin.steps, self.twin.end]], strict=True)
        updates = self.result.steps if self.result.learned is None else self.result.learned
        return float(np.interp(updates, steps, values))

    @property
    def kept(self) -> bool:
        return self.result.finite and self.result.end >= KEPT * self.at_onset

    @property
    def at_onset(self) -> float:
        """True success at the last measurement before the fault."""
        before = [value for step, value in self.result.gold if step <= self.result.onset]
        return before[-1] if before else 0.0

    @property
    def no_return(self) -> int | None:
        """The point of no return, in steps from the onset; only the unwatched run has one."""
        level = KEPT * self.at_onset
        after = [(int(step), value) for step, value in self.result.gold if step >= self.result.onset]
        if self.result.crashed:
            return max(0, self.result.last - self.result.onset)
        if self.result.end >= level:
            return None
        good = [step for step, value in after if value >= level]
        return (good[-1] if good else self.result.onset) - self.result.onset

    @property
    def first_alert(self) -> dict[str, Any] | None:
        return next((a for a in self.result.alerts if a["step"] >= self.result.onset), None)

    @property
    def first_critical(self) -> dict[str, Any] | None:
        return next((a for a in self._critical() if a["step"] >= self.result.onset), None)

    @property
    def early(self) -> bool:
        """Whether a critical came before the fault."""
        return any(a["step"] < self.result.onset for a in self._critical())

    def delay(self, alert: dict[str, Any] | None) -> int | None:
        """Steps from the onset to an alert."""
        return None if alert is None else int(alert["step"]) - self.result.onset

    @property
    def named_first(self) -> bool:
        """Whether the first detector that spoke names the fault."""
        first = self.first_alert
        return first is not None and first["detector"] in self._names()

    @property
    def named(self) -> bool:
        """Whether any detector named the fault, at any time."""
        spoke = {a["detector"] for a in self.result.alerts if a["step"] >= self.result.onset}
        return not spoke.isdisjoint(self._names())

    @property
    def wasted(self) -> int:
        result = self.result
        lost = set(result.withheld)
        for at, to in result.restored:
            lost.update(range(to + 1, at + 1))
        if result.halted is not None or not self.healthy:
            end = result.steps if result.halted is None else result.halted
            lost.update(range(result.onset + 1, end + 1))
        return len(lost)

    def _critical(self) -> list[dict[str, Any]]:
        return [a for a in self.result.alerts if a["severity"] == "critical"]

    def _names(self) -> tuple[str, ...]:
        return FAULTS[self.result.case["fault"]].names


def learned(result: Result) -> bool:
    """Whether a run without a fault is healthy by its outcome: it learned, and keeps 80 % of its best."""
    values = [value for _, value in result.gold]
    best = max(values, default=0.0)
    return result.finite and result.end > values[0] and result.end >= 0.8 * best
