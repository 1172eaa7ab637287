"""Observation: finite and non-finite values never mix."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlwatch.observation import Observation


def test_the_record_holds_everything() -> None:
    """Signals, non-finite values and unknown numbers, the latter under `extra`."""
    obs = Observation(5, 2, 100.0)
    obs.signals["kl"] = 0.1
    obs.nonfinite["loss"] = math.inf
    obs.extra["my/thing"] = 3.0
    assert obs.as_record() == {
        "step": 5,
        "row": 2,
        "time": 100.0,
        "kl": 0.1,
        "loss": math.inf,
        "extra": {"my/thing": 3.0},
    }


def test_no_extra_when_there_is_none() -> None:
    """A row of known signals has no `extra`."""
    assert "extra" not in Observation(0, 0, 0.0).as_record()


@pytest.mark.parametrize("name", ["loss", "policy_loss", "value_loss", "grad_norm", "critic_grad_norm"])
def test_poisoned(name: str) -> None:
    """A non-finite loss or gradient poisons the step."""
    obs = Observation(0)
    assert not obs.poisoned
    obs.nonfinite[name] = math.nan
    assert obs.poisoned


@pytest.mark.parametrize("name", ["explained_variance", "response_length_mean", "reward_mean", "logits_chosen"])
def test_not_poisoned(name: str) -> None:
    """A statistic that is undefined does not."""
    obs = Observation(0)
    obs.nonfinite[name] = math.nan
    assert not obs.poisoned


def test_finite_samples() -> None:
    """NaN and infinities are left out; an array with nothing finite counts as none."""
    obs = Observation(0)
    obs.samples["rewards"] = np.array([1.0, math.nan, 3.0, math.inf])
    obs.samples["advantages"] = np.array([math.nan])
    rewards = obs.finite_samples("rewards")
    assert rewards is not None
    assert rewards.tolist() == [1.0, 3.0]
    assert obs.finite_samples("advantages") is None
    assert obs.finite_samples("gold_scores") is None


def test_has() -> None:
    """Finite, non-finite and arrays all count as present."""
    obs = Observation(0)
    obs.signals["kl"], obs.nonfinite["loss"], obs.samples["rewards"] = 0.1, math.nan, np.ones(2)
    assert [obs.has(name) for name in ("kl", "loss", "rewards", "entropy")] == [True, True, True, False]


def test_time_is_now() -> None:
    """Without a time the clock is read."""
    assert Observation(0).time > 1.6e9
