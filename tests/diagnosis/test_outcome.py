"""How a run stands: what was said, and what was done."""

from __future__ import annotations

import pytest

from rlwatch.diagnosis.outcome import Told, outcome_of, told_of

BACK = {"event": "rollback", "step": 50, "time": 1000.0}
HALT = {"event": "halt", "step": 60, "time": 2000.0}
EARLY: Told = (50, "critical", 999.0)


@pytest.mark.parametrize(
    ("alerts", "events", "outcome"),
    [
        ([], [], "clean"),
        ([(3, "warning", None)], [], "warning"),
        ([EARLY], [], "critical"),
        ([EARLY], [BACK], "recovered"),
        ([EARLY, (70, "warning", 1500.0)], [BACK], "recovered"),
        ([EARLY, (70, "critical", 1500.0)], [BACK], "critical"),
        ([EARLY, (45, "critical", 1500.0)], [BACK], "critical"),  # the framework counts its steps back
        ([EARLY, (51, "critical", None)], [BACK], "critical"),  # no clock: by the step
        ([(50, "critical", None)], [BACK], "recovered"),
        ([(None, "critical", None)], [BACK], "critical"),
        ([EARLY], [BACK, HALT], "halted"),
        ([EARLY], [{"event": "skip", "step": 50}], "critical"),
    ],
)
def test_outcome(alerts: list[Told], events: list[dict[str, object]], outcome: str) -> None:
    """Going back counts as recovery only while no critical alert follows."""
    assert outcome_of(alerts, events) == outcome


def test_of_a_record() -> None:
    """A replay's alerts have no clock, and a broken line no step."""
    assert told_of({"step": 3, "severity": "warning", "time": 0.0}) == (3, "warning", None)
    assert told_of({"step": "x", "severity": "critical", "time": 5}) == (None, "critical", 5.0)
