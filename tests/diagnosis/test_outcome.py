"""How a run stands: what was said, and what was done."""

from __future__ import annotations

import pytest

from rlwatch.diagnosis.outcome import Told, judged, outcome_of, told_of

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


@pytest.mark.parametrize(
    ("coverage", "over", "evaluated"),
    [
        (None, True, True),
        ("torn", True, True),
        ({}, True, False),
        ({"kl": {"state": "armed"}, "entropy": {"state": "starved"}}, True, True),
        ({"kl": {"state": "warming"}}, False, True),
        ({"kl": {"state": "warming"}}, True, False),
        ({"kl": {"state": "starved"}, "entropy": 3}, False, False),
    ],
)
def test_silence_of_a_blind_watch_is_not_clean(coverage: object, over: bool, evaluated: bool) -> None:
    """A run whose detectors saw nothing is not evaluated; while it goes on, those that warm up count."""
    assert judged(coverage, over) is evaluated
    assert outcome_of([], [], evaluated) == ("clean" if evaluated else "not evaluated")
    assert outcome_of([EARLY], [], evaluated) == "critical"


def test_of_a_record() -> None:
    """A replay's alerts have no clock, and a broken line no step."""
    assert told_of({"step": 3, "severity": "warning", "time": 0.0}) == (3, "warning", None)
    assert told_of({"step": "x", "severity": "critical", "time": 5}) == (None, "critical", 5.0)
