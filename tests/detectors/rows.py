"""Rows of signals for one detector, and what every one of the later detectors must do."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from faults import Signals

from rlwatch.alert import Alert, Severity
from rlwatch.detectors.base import Detector
from rlwatch.detectors.registry import detector_classes
from rlwatch.observation import Observation


def observations(signals: Signals) -> Iterator[Observation]:
    """Rows from arrays of shape (rows,) or numbers; NaN goes where non-finite values go, None is a missing value."""
    rows = max(len(values) for values in signals.values() if np.ndim(values))
    columns = {name: list(values) if np.ndim(values) else [values] * rows for name, values in signals.items()}
    for row in range(rows):
        observation = Observation(row, row, 0.0)
        for name, values in columns.items():
            if values[row] is not None:
                x = float(values[row])
                (observation.signals if math.isfinite(x) else observation.nonfinite)[name] = x
        yield observation


def alerts_of(name: str, signals: Signals, **settings: Any) -> list[Alert]:
    """What one detector says to a run."""
    one = detector_classes()[name](settings)
    return [alert for row in observations(signals) if (alert := one.update(row)) is not None]


def told(alerts: list[Alert]) -> list[tuple[int, str, str]]:
    """Step, severity and message of each alert."""
    return [(alert.step, alert.severity.value, alert.message) for alert in alerts]


def first(name: str, signals: Signals, onset: int, delay: int, severity: str, **settings: Any) -> Alert:
    """The first alert of that severity: none comes before the onset, and it comes in time; complete and strict JSON."""
    alerts = alerts_of(name, signals, **settings)
    assert all(alert.step >= onset for alert in alerts), told(alerts)
    found = next((alert for alert in alerts if alert.severity.value == severity), None)
    assert found is not None, told(alerts)
    assert found.step <= onset + delay, told(alerts)
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["evidence"] == dict(found.evidence)
    assert found.remedy
    assert found.playbook == f"playbook/{name}.md"
    return found


def false_alarms(name: str, make: Any, seeds: int = 40) -> tuple[int, int]:
    """How many of the runs `make(rng)` had a critical, and how many any alert."""
    runs = [alerts_of(name, make(np.random.default_rng(seed))) for seed in range(seeds)]
    with_critical = sum(any(alert.severity is Severity.CRITICAL for alert in alerts) for alerts in runs)
    return with_critical, sum(bool(alerts) for alerts in runs)


def assert_state_survives(name: str, signals: Signals, **settings: Any) -> None:
    """Saved as JSON at any time and taken up by another, a run gives the identical alerts."""
    rows = list(observations(signals))
    whole = detector_classes()[name](settings)
    expected = [(row.row, alert.message) for row in rows if (alert := whole.update(row)) is not None]
    assert expected
    for cut in (1, len(rows) // 4, len(rows) // 2, expected[0][0], expected[0][0] + 1):
        one: Detector = detector_classes()[name](settings)
        seen = []
        for row in rows:
            if row.row == cut:
                state = json.loads(json.dumps(one.state_dict(), allow_nan=False))
                one = detector_classes()[name](settings)
                one.load_state_dict(state)
                assert one.state_dict() == state
            if (alert := one.update(row)) is not None:
                seen.append((row.row, alert.message))
        assert seen == expected, cut


def assert_nan_changes_nothing(name: str, signals: Signals, every: int = 7, **settings: Any) -> None:
    """Rows that are wholly NaN, put between the others, neither alarm nor blind."""
    one, other = detector_classes()[name](settings), detector_classes()[name](settings)
    for row in observations(signals):
        if row.row % every == 3:
            bad = Observation(row.step, row.row, 0.0)
            bad.nonfinite = dict.fromkeys(signals, math.nan)
            assert other.update(bad) is None
        expected, got = one.update(row), other.update(row)
        assert (expected and expected.message) == (got and got.message), row.row
