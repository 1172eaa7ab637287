"""Rows with sample arrays and texts, and a healthy run beside which a fault is set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from faults import Array

from rlwatch.alert import Alert
from rlwatch.detectors.registry import detector_classes
from rlwatch.intake import derive
from rlwatch.observation import Observation


def batches(samples: Iterable[Mapping[str, Any]], signals: Mapping[str, Array] | None = None) -> Iterator[Observation]:
    """Rows of sample arrays (lists of text stay lists), means and deviations derived as `Watch.log` does."""
    for row, arrays in enumerate(samples):
        observation = Observation(row, row, 0.0)
        for name, values in arrays.items():
            text = len(values) > 0 and isinstance(values[0], str)
            observation.samples[name] = list(values) if text else np.asarray(values, dtype=np.float64)
        for name, column in (signals or {}).items():
            observation.signals[name] = float(column[row])
        derive(observation)
        yield observation


def alerts_on(name: str, rows: Iterable[Observation], **settings: Any) -> list[Alert]:
    """What one detector says; each alert is strict JSON."""
    one = detector_classes()[name](settings)
    alerts = [alert for row in rows if (alert := one.update(row)) is not None]
    for alert in alerts:
        json.dumps(alert.as_dict(), allow_nan=False)
    return alerts


def assert_samples_survive(name: str, rows: list[Observation], **settings: Any) -> None:
    """Saved as JSON in mid-stream and taken up by another, a run with samples gives the identical alerts."""
    expected = [(alert.step, alert.message) for alert in alerts_on(name, rows, **settings)]
    assert expected
    for cut in (1, len(rows) // 2, expected[0][0]):
        one = detector_classes()[name](settings)
        seen = []
        for row in rows:
            if row.row == cut:
                frozen = one.state_dict()
                state = json.loads(json.dumps(frozen, allow_nan=False))
                one.update(row)
                assert json.loads(json.dumps(frozen, allow_nan=False)) == state
                one = detector_classes()[name](settings)
                one.load_state_dict(state)
            if (alert := one.update(row)) is not None:
                seen.append((alert.step, alert.message))
        assert seen == expected, cut
