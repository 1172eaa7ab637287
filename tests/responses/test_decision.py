"""What alerts ask for: a critical, or several detectors that only warn at the same time."""

from __future__ import annotations

import pytest
import torch

from rlwatch import Watch
from rlwatch.alert import Action, Alert, Severity
from rlwatch.config import load_settings
from rlwatch.detectors.base import Detector, Finding, Link, warning
from rlwatch.observation import Observation
from rlwatch.responses.decision import Decision


def warned(*detectors: str) -> list[Alert]:
    return [Alert(name, Severity.WARNING, 7, "odd", {}) for name in detectors]


@pytest.mark.parametrize(
    ("alerts", "lasting", "action"),
    [
        (["kl_explosion"], ["kl_explosion", "reward_collapse"], Action.CONTINUE),
        (["kl_explosion"], ["kl_explosion", "reward_collapse", "gradient_spike"], Action.HALT),
        (["kl_explosion"], ["kl_explosion", "reward_drift", "throughput", "gradient_spike"], Action.CONTINUE),
        (["reward_drift"], ["reward_drift", "kl_explosion", "reward_collapse", "gradient_spike"], Action.CONTINUE),
        ([], ["kl_explosion", "reward_collapse", "gradient_spike"], Action.CONTINUE),
    ],
)
def test_three_that_agree_are_a_critical(alerts: list[str], lasting: list[str], action: Action) -> None:
    """At the alert that makes them three, once; those that only ever warn do not count."""
    decide = Decision(load_settings(on_critical="halt"))
    asked, note = decide(warned(*alerts), False, lasting)
    assert asked is action
    assert ("at once" in note) is (action is Action.HALT)


class Odd(Detector):
    """Warns from its row on."""

    link, needs, lag, row = Link.POLICY, ("loss",), 3, 40

    def check(self, obs: Observation) -> Finding | None:
        """A row of trouble."""
        return warning("odd") if obs.row >= self.row else None


class OddOne(Odd):
    id = "odd_one"


class OddTwo(Odd):
    id, row = "odd_two", 41


class OddThree(Odd):
    id, row = "odd_three", 43


@pytest.mark.parametrize("severity", ["critical", "warning"])
def test_the_guard_goes_back_for_them(severity: str) -> None:
    """Named after the detector that completed them; one that may only warn by its settings does not count."""
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    quiet = {"record": False, "console": False, "odd_one": {"severity": severity}}
    with Watch(on_critical="rollback", detectors=[OddOne, OddTwo, OddThree], **quiet) as watch:
        guard = watch.guard(model, optimizer, snapshot_every=5)
        went = [step for step in range(45) if guard.step(watch.log(loss=1.0, step=step))]
    if severity == "warning":
        assert went == []
        return
    assert went == [43]
    assert guard.rollback is not None
    (done,) = guard.rollback.history.done
    assert (done.detector, list(done.others)) == ("odd_three", ["odd_one", "odd_two"])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02)
