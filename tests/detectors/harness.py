"""Runs one detector over a synthetic run."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from faults import Run

from rlwatch.alert import Alert, Severity
from rlwatch.detectors.base import Detector
from rlwatch.detectors.registry import detector_classes
from rlwatch.observation import Observation


def detector(name: str, **settings: Any) -> Detector:
    """A fresh detector of that id."""
    return detector_classes()[name](settings)


def alerts_of(name: str, run: Run, **settings: Any) -> list[Alert]:
    """The alerts of one detector over a whole run."""
    one = detector(name, **settings)
    return [alert for obs in run.observations() if (alert := one.update(obs)) is not None]


def told(alerts: list[Alert]) -> list[tuple[int, str, str]]:
    """What identifies each alert: step, severity and message."""
    return [(alert.step, alert.severity.value, alert.message) for alert in alerts]


def criticals(alerts: list[Alert]) -> list[Alert]:
    """The critical ones."""
    return [alert for alert in alerts if alert.severity is Severity.CRITICAL]


def strict_json(value: Any) -> Any:
    """The value through strict JSON text and back; ValueError where it holds NaN or Infinity."""
    return json.loads(json.dumps(value, allow_nan=False))


def assert_told_in_time(name: str, run: Run, delay: int, severity: str | None = None, **settings: Any) -> list[Alert]:
    """No alert before the onset, one (of that severity) at most `delay` rows after it."""
    alerts = alerts_of(name, run, **settings)
    assert all(alert.step >= run.onset for alert in alerts), f"before the onset: {told(alerts)}"
    steps = [a.step for a in alerts if severity is None or a.severity.value == severity]
    assert steps, f"nothing {severity or ''} in {len(run)} rows, onset {run.onset}: {told(alerts)}"
    assert steps[0] - run.onset <= delay, f"onset {run.onset}: {told(alerts)}"
    return alerts


def noise_alarms(name: str, signal: str, level: float, seeds: int = 200, rows: int = 1000) -> tuple[int, int]:
    """How many runs of stationary log-normal(.3) noise had a critical, and how many any alert.

    The detector gets `signal` around `level` and nothing else: no second signal excuses or confirms it.
    """
    values = level * np.random.default_rng(0).lognormal(0.0, 0.3, (seeds, rows))
    with_critical = with_any = 0
    for run in values.tolist():
        one = detector(name)
        alerts = []
        for row, x in enumerate(run):
            obs = Observation(row, row, 0.0)
            obs.signals[signal] = x
            if (alert := one.update(obs)) is not None:
                alerts.append(alert)
        with_critical += bool(criticals(alerts))
        with_any += bool(alerts)
    return with_critical, with_any


def assert_quiet(name: str, run: Run, **settings: Any) -> None:
    """No alert at all."""
    alerts = alerts_of(name, run, **settings)
    assert not alerts, told(alerts)
