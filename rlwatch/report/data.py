"""What a report is made from: a run's signals as columns, and what was said and done about them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from rlwatch.alert import Alert
from rlwatch.detectors.coverage import CoverageReport
from rlwatch.diagnosis import Course, Incident, diagnose
from rlwatch.diagnosis.changes import SETTINGS, Changes
from rlwatch.diagnosis.outcome import Outcome, outcome_of
from rlwatch.observation import FloatArray, Observation

IntArray = npt.NDArray[np.int64]

MAX_ALERTS = 2000
"""Alerts that a report goes by, the first ones: more are one incident that nobody reads to its end."""


class ReportError(ValueError):
    """There is nothing to report on; the message says why."""


@dataclass
class RunData:
    """A run, as far as its record tells.

    Attributes:
        name: what to call it.
        steps: shape (n,), ascending, each once.
        times: seconds since the epoch, shape (n,); NaN where nobody knows.
        signals: name -> values, shape (n,); NaN where a step has none, or where it was not finite.
        nonfinite: name -> (step, "NaN" or "Infinity" or "-Infinity").
        shapes: sample array -> (step, its summary), of `sinks.records.summary`.
        pairs: (step, response length, reward) of single samples.
        alerts, events: in the order they came.
        coverage: None where nothing tells what was seen.
        info: what the run said of itself: `command`, `versions`, `settings`, ...
        summary: what it said at its end; None while it lives, or if it was killed.
        recording: rows written and lost.
        samples: records of single samples, each with `step` and `pick`.
        remarks: what a reader should know of the record, a sentence each.
        live: whether the rows came as the training made them, so that the clock tells what a step takes.
        life: "running", "ended", "died" (without a word), or "" where nothing tells.
    """

    name: str
    steps: IntArray
    times: FloatArray
    signals: dict[str, FloatArray]
    nonfinite: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    shapes: dict[str, list[tuple[int, Mapping[str, Any]]]] = field(default_factory=dict)
    pairs: list[tuple[int, float, float]] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    coverage: CoverageReport | None = None
    info: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] | None = None
    recording: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    live: bool = True
    life: str = ""

    @cached_property
    def course(self) -> Course:
        """The pace of the last rows."""
        course = Course()
        clock = bool(np.isfinite(self.times).all())
        took = self.signals.get("step_time")
        for row in range(max(0, len(self.steps) - 65), len(self.steps)):
            obs = Observation(int(self.steps[row]), row, float(self.times[row]) if clock else 0.0)
            if took is not None and math.isfinite(took[row]):
                obs.signals["step_time"] = float(took[row])
            course.push(obs)
        return course

    @cached_property
    def changes(self) -> Changes:
        """Settings that somebody changed."""
        changes = Changes()
        known = {name: self.signals[name] for name in SETTINGS if name in self.signals}
        for row, step in enumerate(self.steps if known else ()):
            now = {name: float(values[row]) for name, values in known.items() if math.isfinite(values[row])}
            changes.push(int(step), row, now)
        return changes

    @cached_property
    def incidents(self) -> list[Incident]:
        """The alerts that belong together, diagnosed."""
        return diagnose(
            self.alerts[:MAX_ALERTS],
            self.coverage,
            changes=self.changes,
            step=self.course.furthest,
            stride=self.course.stride,
            seconds_per_step=self.course.seconds_per_step(self.live),
            gpus=_positive(self.setting("gpus"), int),
            gpu_price=_positive(self.setting("gpu_price"), float),
        )

    @cached_property
    def outcome(self) -> Outcome:
        """How the run stands."""
        armed = self.coverage.in_state("armed") if self.coverage is not None else []
        told = ((alert.step, alert.severity.value, alert.time) for alert in self.alerts)
        return outcome_of(told, self.events, judged=bool(armed))

    @property
    def given_up(self) -> list[tuple[int, int]]:
        """First and last step of each stretch that a rollback took back."""
        return [(event["to_step"], event["step"]) for event in self.rollbacks if event["to_step"] < event["step"]]

    @property
    def rollbacks(self) -> list[dict[str, Any]]:
        """The events of going back, those that say from where to where."""
        return [e for e in self.events if e.get("event") == "rollback" and isinstance(e.get("to_step"), int)]

    def setting(self, name: str) -> Any:
        """A setting that held for the run, None where it is not recorded."""
        settings = self.info.get("settings")
        return settings.get(name) if isinstance(settings, Mapping) else None


def worst_of(incidents: Sequence[Incident]) -> Incident | None:
    """The first critical one, else the first; None where there is none."""
    return next((one for one in incidents if one.severity == "critical"), incidents[0] if incidents else None)


def _positive(value: Any, kind: type[Any]) -> Any:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    return kind(value) if good else None
