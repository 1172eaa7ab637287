"""Calls: the fast way through the detectors says what their `update` says, and leaves the same state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from faults import FAULTS, Fault, healthy

from rlwatch import Watch
from rlwatch.alert import Alert
from rlwatch.detectors.base import Detector, Finding, Link, warning
from rlwatch.detectors.calls import MAX_PLANS, Calls, Raised
from rlwatch.detectors.registry import detector_classes
from rlwatch.observation import Observation

TOUCHY: dict[str, dict[str, Any]] = {
    "advantage_spike": {"warning_times": 1.3, "critical_times": 1.5, "sigma": 1.0},
    "reward_variance_explosion": {"warning_times": 1.3, "critical_times": 1.5, "sigma": 1.0},
    "gradient_spike": {"warning_sigma": 1.0, "warning_times": 1.2, "growth_times": 1.6},
    "kl_explosion": {"warning_sigma": 0.5, "warning_level": 0.01, "critical_level": 0.02, "creep_level": 0.03},
    "entropy_collapse": {"warning_ratio": 0.8, "critical_ratio": 0.5, "sudden_ratio": 0.85, "sudden_sigma": 0.5},
    "entropy_explosion": {"warning_times": 1.15, "slow_times": 1.2, "alone_times": 1.2, "rise": 0.0},
    "length_exploitation": {"growth": 1.05, "alone_growth": 1.1, "correlation": 0.1, "shrink": 0.9, "cut": 0.3},
    "throughput": {"warning_times": 1.1, "sigma": 0.5, "growth_times": 1.2},
    "reward_drift": {"blocks": 3, "noise": 0.5, "share": 0.01},
    "reward_degenerate": {"dead_rows": 2, "critical_rows": 4, "tied_rows": 2, "looks": 1},
}
"""Limits that healthy noise passes now and then, so that every path is taken."""

OFTEN = {"cooldown": 5, "rearm": 2, "max_warnings": 500}


def everybody() -> list[Detector]:
    """All detectors, touchy, in the order of the loop; they share no statistic."""
    return [kind(TOUCHY.get(name, {}) | OFTEN) for name, kind in detector_classes().items()]


def odd_rows(case: Fault, seed: int) -> list[Observation]:
    """A fault's run with signals that are missing, NaN, zero or far out now and then, and some empty arrays."""
    rng = np.random.default_rng(seed)
    rows = list(case.make(seed=seed).observations())
    for obs in rows:
        for name in list(obs.signals):
            draw = rng.random()
            if draw < 0.01:
                del obs.signals[name]
            elif draw < 0.012:
                obs.nonfinite[name] = math.nan
                del obs.signals[name]
            elif draw < 0.02:
                obs.signals[name] *= (0.0, 0.1, 8.0)[obs.row % 3]
        if "rewards" in obs.samples and rng.random() < 0.05:
            obs.samples["rewards"] = np.full(4, math.nan)
    return rows


def alone(detectors: list[Detector], rows: list[Observation]) -> Iterator[tuple[int, Alert]]:
    """What each says by itself, restored from its state before every row, so that nothing is put off."""
    for obs in rows:
        for one in detectors:
            one.load_state_dict(one.state_dict())
            alert = one.update(obs)
            if alert is not None:
                yield obs.row, alert


def fields(found: Iterator[tuple[int, Any]]) -> list[Any]:
    """The alerts as plain values."""
    return [(row, alert.as_dict()) for row, alert in found]


@pytest.mark.parametrize("case", FAULTS.values(), ids=list(FAULTS))
def test_together_is_as_one_by_one(case: Fault) -> None:
    """Row for row the same alerts with the same evidence, and the same states and counts, at the end and midway."""
    rows = odd_rows(case, seed=3)
    fast, slow = everybody(), everybody()
    calls = Calls(fast)
    half = len(rows) // 2
    for part in (rows[:half], rows[half:]):
        found = [(obs.row, alert) for obs in part for alert in calls(obs)]
        assert fields(iter(found)) == fields(alone(slow, part))
        calls.settle()
        assert [one.state_dict() for one in fast] == [one.state_dict() for one in slow]
        assert [one.coverage() for one in fast] == [one.coverage() for one in slow]


class Loud(Detector):
    """Speaks at every tenth row, and has an `update` of its own."""

    id = "loud"
    link = Link.POLICY
    needs = ("loss",)

    def update(self, obs: Observation) -> Alert | None:
        """As the others, but every row is one of its own."""
        return super().update(obs)

    def check(self, obs: Observation) -> Finding | None:
        """Row 10, 20, ..."""
        return warning("ten", row=obs.row) if obs.row % 10 == 9 else None


class Broken(Detector):
    """Raises at row 20."""

    id = "broken"
    link = Link.REWARD
    needs = ("loss",)

    def check(self, obs: Observation) -> Finding | None:
        """Nothing, once a bug."""
        if obs.row == 20:
            raise ZeroDivisionError("a bug")
        return None


def test_an_update_of_its_own_and_one_that_raises() -> None:
    """Both are called for every row, in their order; who raises costs the others nothing."""
    calls = Calls([Broken(), Loud({"cooldown": 0, "rearm": 1}), *everybody()])
    said = {}
    for obs in healthy(40, seed=1).observations():
        obs.signals["loss"] = 0.1
        said[obs.row] = [one.detector for one in calls(obs) if isinstance(one, Raised) or one.detector == "loud"]
    assert {row: names for row, names in said.items() if names and row != 20} == {
        row: ["loud"] for row in (9, 19, 29, 39)
    }
    (raised,) = said[20]
    assert isinstance(raised, Broken)
    assert calls.own


def test_a_trouble_is_known_while_it_lasts() -> None:
    """From the alert until it has been quiet for `rearm` rows, somebody is troubled; then nobody is."""
    calls = Calls([once(9)])
    states = []
    for row in range(40):
        calls(_loss(row))
        states.append(calls.troubled)
    assert states == [False] * 9 + [True] * 10 + [False] * 21


class Once(Detector):
    """Speaks once."""

    id = "once"
    link = Link.POLICY
    needs = ("loss",)
    row = 0

    def check(self, obs: Observation) -> Finding | None:
        """At its row."""
        return warning("now", row=obs.row) if obs.row == self.row else None


def once(row: int) -> Once:
    """One that speaks at this row."""
    one = Once()
    one.row = row
    return one


def _loss(row: int, **more: float) -> Observation:
    obs = Observation(row, row, 0.0)
    obs.signals = {"loss": 0.1, **more}
    return obs


def test_names_without_end_cost_no_memory() -> None:
    """A loop that logs under a new name at every row is judged, and its kinds of rows are forgotten again."""
    one = once(-1)
    calls = Calls([one])
    for row in range(3 * MAX_PLANS):
        calls(_loss(row, **{f"name_{row}": 1.0}))
    assert len(calls._plans) <= MAX_PLANS
    calls.settle()
    assert one.coverage().seen == 3 * MAX_PLANS


def test_detectors_of_a_run_share_what_they_know_of_the_reward() -> None:
    """One statistic, filled once a row whoever asks; a detector by itself has its own."""
    watch = Watch(record=False, console=False)
    for row in healthy(50, seed=2).rows():
        watch.log(row)
    team = watch._team.detectors
    assert team["reward_collapse"]._standing is team["length_exploitation"]._standing  # type: ignore[attr-defined]
    assert team["kl_explosion"]._progress is team["entropy_collapse"]._progress  # type: ignore[attr-defined]
    assert team["reward_collapse"]._standing.rows == team["kl_explosion"]._progress.rows == 50  # type: ignore[attr-defined]
    other = Watch(record=False, console=False)
    other.load_state_dict(watch.state_dict())
    assert other._team.detectors["reward_collapse"]._standing.rows == 50  # type: ignore[attr-defined]
    assert other.state_dict() == watch.state_dict()
