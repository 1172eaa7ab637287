"""Which rows were healthy, as alerts tell it afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from rlwatch import Watch
from rlwatch.alert import Alert, Severity
from rlwatch.responses.health import LOOK, ONSET, Health, Standing


class Stub:
    """What Health asks a detector."""

    def __init__(self, lag: int) -> None:
        self.lag = lag
        self.trouble: Severity | None = None


CRITICAL, WARNING = Severity.CRITICAL, Severity.WARNING


def health_of(**lags: int) -> tuple[Health, dict[str, Any]]:
    detectors: dict[str, Any] = {name: Stub(lag) for name, lag in lags.items()}
    return Health(detectors), detectors


def alert(detector: str, severity: Severity, step: int = 0, **evidence: Any) -> Alert:
    return Alert(detector, severity, step, "broken", evidence)


def quiet(health: Health, rows: range) -> None:
    for row in rows:
        health.judged(row, [])


def test_healthy_is_what_is_older_than_the_longest_lag() -> None:
    """Until the slowest detector would have spoken, nothing is proven."""
    health, _ = health_of(kl=10, entropy=30)
    assert health.standing(0) is Standing.UNPROVEN
    quiet(health, range(40))
    assert [health.standing(row) for row in (9, 10, 39)] == [Standing.HEALTHY, Standing.UNPROVEN, Standing.UNPROVEN]


def test_a_critical_poisons_back_to_its_onset() -> None:
    """By the detector's lag; what was before it stays healthy."""
    health, detectors = health_of(kl=10)
    quiet(health, range(50))
    detectors["kl"].trouble = CRITICAL
    health.judged(50, [alert("kl", CRITICAL, step=500)])
    assert health.standing(39) is Standing.HEALTHY
    assert {health.standing(row) for row in (40, 45, 50, 51)} == {Standing.POISONED}
    assert health.reason(45) == "kl (critical) at step 500, traced back 10 rows"
    assert health.reason(39) == ""


def test_the_evidence_may_know_the_onset_better() -> None:
    """`rows_since_onset` wins over the lag, both ways."""
    for since in (2, 25):
        health, detectors = health_of(kl=10)
        quiet(health, range(50))
        detectors["kl"].trouble = CRITICAL
        health.judged(50, [alert("kl", CRITICAL, **{ONSET: since})])
        assert health.standing(50 - since) is Standing.POISONED
        assert health.standing(50 - since - 1) is not Standing.POISONED


def test_a_warning_makes_suspect_until_it_is_over() -> None:
    """Later states too, as long as the trouble lasts; after that they have to be proven."""
    health, detectors = health_of(kl=10)
    quiet(health, range(50))
    detectors["kl"].trouble = WARNING
    health.judged(50, [alert("kl", WARNING)])
    quiet(health, range(51, 60))
    assert health.standing(59) is Standing.SUSPECT
    detectors["kl"].trouble = None
    quiet(health, range(60, 80))
    assert health.standing(60) is Standing.SUSPECT
    assert health.standing(61) is Standing.HEALTHY
    assert health.standing(75) is Standing.UNPROVEN


def test_a_critical_reaches_back_to_the_warning_before_it() -> None:
    """The trouble that grew began where the warning was traced to."""
    health, detectors = health_of(kl=10)
    quiet(health, range(50))
    detectors["kl"].trouble = WARNING
    health.judged(50, [alert("kl", WARNING)])
    quiet(health, range(51, 65))
    detectors["kl"].trouble = CRITICAL
    health.judged(65, [alert("kl", CRITICAL)])
    assert health.standing(40) is Standing.POISONED
    assert health.standing(39) is Standing.HEALTHY


def test_a_trouble_that_is_kept_quiet_counts() -> None:
    """Within its cool-down a detector does not repeat itself; the state is suspect all the same."""
    health, detectors = health_of(kl=10)
    quiet(health, range(48))
    detectors["kl"].trouble = WARNING
    quiet(health, range(48, 48 + LOOK))
    assert health.standing(48) is Standing.SUSPECT
    assert "came back" in health.reason(48)


def test_after_going_back_nothing_is_traced_to_before_it() -> None:
    """Old troubles are over, and a new one began after the return at the earliest."""
    health, detectors = health_of(kl=10)
    quiet(health, range(50))
    detectors["kl"].trouble = CRITICAL
    health.judged(50, [alert("kl", CRITICAL)])
    health.went_back()
    detectors["kl"].trouble = None
    quiet(health, range(51, 55))
    assert health.standing(51) is Standing.UNPROVEN
    detectors["kl"].trouble = CRITICAL
    health.judged(55, [alert("kl", CRITICAL)])
    assert health.standing(51) is Standing.POISONED
    assert health.standing(39) is Standing.HEALTHY


def test_an_alert_of_a_stranger_ends_at_once() -> None:
    """An alert whose detector is not in use poisons its own rows, and nothing for ever."""
    health, _ = health_of(kl=10)
    quiet(health, range(50))
    health.judged(50, [alert("mine", CRITICAL)])
    quiet(health, range(51, 80))
    assert health.standing(50) is Standing.POISONED
    assert health.standing(60) is Standing.HEALTHY


@pytest.mark.usefixtures("elsewhere")
def test_with_real_detectors() -> None:
    """A KL explosion in a real Watch: before it healthy, in it poisoned, and after it is over to be proven anew."""
    watch = Watch(record=False, console=False, strict=True)
    for step in range(200):
        watch.log(step=step, loss=1.0, kl=3.0 if 100 <= step < 106 else 0.01, entropy=1.0)
    (told,) = watch.alerts
    assert told.detector == "kl_explosion"
    assert [watch.health.standing(row) for row in (70, 100, 103)] == [
        Standing.HEALTHY,
        Standing.POISONED,
        Standing.POISONED,
    ]
    assert watch.health.standing(160) is Standing.HEALTHY
    assert watch.health.standing(180) is Standing.UNPROVEN
