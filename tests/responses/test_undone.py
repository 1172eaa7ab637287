"""What had been changed for the worse when a run failed, and is as it was after going back."""

from __future__ import annotations

import math
from typing import Any

import pytest
from support_rollback import Run, guard_of, quiet_watch, train

from rlwatch.responses.levers import KNOBS
from rlwatch.responses.undone import WORSE, undone


def of(name: str, before: Any, now: Any, **ours: Any) -> str | None:
    """The words for one knob."""
    return undone({name: before}, {name: now}, [], [], ours).get(name)


@pytest.mark.parametrize(
    ("name", "before", "now", "words"),
    [
        ("entropy_coef", 1.0, 0.01, "coefficient of the entropy bonus 1 -> 0.01, as it was"),
        ("kl_coef", 0.0, 0.4, "coefficient of the KL penalty 0 -> 0.4, as it was"),
        ("value_coef", 100.0, 0.5, "weight of the critic's loss beside the policy's 100 -> 0.5, as it was"),
        ("sync_every", 400, 1, "updates from one copy of the weights to the sampler to the next 400 -> 1, as it was"),
        ("temperature", 0.1, 1.0, "of sampling 0.1 -> 1, as it was"),
        ("max_grad_norm", None, 1.0, "norm at which gradients are clipped none -> 1, as it was"),
        ("reward_clip", math.inf, 2.0, "bound of the absolute reward; None or infinite for none inf -> 2, as it was"),
        ("normalize_advantages", False, True,
         "whether the advantages are divided by their standard deviation False -> True, as it was"),
    ],
)  # fmt: skip
def test_a_change_for_the_worse(name: str, before: Any, now: Any, words: str) -> None:
    """Told with both values."""
    assert of(name, before, now) == words


@pytest.mark.parametrize(
    ("name", "before", "now"),
    [
        ("kl_coef", 0.4, 0.1),  # a controller had raised it: it is lower now, which is no remedy
        ("max_grad_norm", 0.1, 1.0),
        ("entropy_coef", 0.009, 0.01),  # a schedule
        ("entropy_coef", 0.01, 0.01),
        ("epochs", 2, 4),
        ("normalize_advantages", True, False),
        ("max_grad_norm", 0.0, None),
        ("a knob of the user", 1.0, 9.0),
    ],
)
def test_no_change_for_the_worse(name: str, before: Any, now: Any) -> None:
    """The other way, or too little of it."""
    assert of(name, before, now) is None


def test_what_a_remedy_did_is_not_put_back_as_a_remedy() -> None:
    """It was ours; what somebody has changed since is not."""
    assert of("value_coef", 0.1, 0.5, value_coef=0.1) is None
    assert of("value_coef", 0.02, 0.5, value_coef=0.1) is not None


@pytest.mark.parametrize(
    ("rates", "put", "found"),
    [
        ([1e-3, 0.0], [1e-3, 1e-3], True),
        ([1e-3, 1e-5], [1e-3, 1e-3], True),
        ([1e-5, 1e-5], [1e-3, 1e-3], False),  # a schedule of both
        ([1e-1, 1e-3], [1e-3, 1e-3], False),  # a jump: it comes again
        ([0.0], [1e-3], False),
        ([1e-3, 0.0], [1e-3, 0.0], False),
    ],
)
def test_a_groups_rate(rates: list[float], put: list[float], found: bool) -> None:
    """One that fell while the others did not."""
    assert ("lr" in undone({}, {}, rates, put, {})) is found


def test_every_knob_named_here_is_known() -> None:
    """By the names of the levers."""
    assert set(WORSE) <= set(KNOBS)


def test_a_run_whose_setting_was_changed() -> None:
    """Going back puts it back, says so, and cuts no rate; the second time the rate goes as well."""
    run, watch = Run(), quiet_watch()
    config = {"bonus": 0.01}
    guard = guard_of(watch, run, knobs={"entropy_coef": (config, "bonus")})
    train(run, watch, guard, range(40))
    rate = run.optimizer.param_groups[0]["lr"]
    config["bonus"] = 1.0
    train(run, watch, guard, range(40, 60), bad=range(40, 60))
    assert guard.rollback is not None
    (done, *_) = guard.rollback.history.done
    assert done.remedies == ["coefficient of the entropy bonus 1 -> 0.01, as it was"]
    assert config["bonus"] == 0.01
    if len(guard.rollback.history.done) == 1:
        assert run.optimizer.param_groups[0]["lr"] == pytest.approx(rate, rel=0.5)
