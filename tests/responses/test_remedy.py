"""What each remedy changes, in which order, and how it grows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from rlwatch import playbook
from rlwatch.detectors.registry import detector_classes
from rlwatch.responses.cures import (
    Context,
    clip_gradients,
    clip_rewards,
    lower_entropy_bonus,
    lower_learning_rate,
    lower_value_weight,
    normalise_advantages,
    raise_entropy_bonus,
    raise_kl,
    sample_plainly,
    skip_data,
    smaller_updates,
    sync_more_often,
)
from rlwatch.responses.levers import KNOBS, Levers
from rlwatch.responses.remedy import DEFAULT, REMEDIES, Pharmacy
from rlwatch.responses.reward_scale import Bound


def context(detector: str = "kl_explosion", strength: int = 1, lr: float = 0.01, **values: Any) -> Context:
    """A run with one optimizer and these knobs."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=lr)
    return Context(detector, 100, 50, Levers([optimizer], [], {name: (values, name) for name in values}), strength)


@pytest.mark.parametrize(
    ("remedy", "values", "after", "words"),
    [
        (raise_kl, {"kl_coef": 0.05}, {"kl_coef": 0.1}, "KL coefficient 0.05 -> 0.1"),
        (raise_kl, {"kl_coef": 0.0}, {"kl_coef": 0.0}, None),
        (raise_kl, {}, {}, None),
        (clip_gradients, {"max_grad_norm": None}, {"max_grad_norm": 1.0}, "gradient clipping none -> 1"),
        (clip_gradients, {"max_grad_norm": 0.0}, {"max_grad_norm": 1.0}, "gradient clipping 0 -> 1"),
        (clip_gradients, {"max_grad_norm": math.inf}, {"max_grad_norm": 1.0}, "gradient clipping inf -> 1"),
        (clip_gradients, {"max_grad_norm": 1.0}, {"max_grad_norm": 0.5}, "gradient clipping 1 -> 0.5"),
        (clip_gradients, {"max_grad_norm": 0.5}, {"max_grad_norm": 0.1}, "gradient clipping 0.5 -> 0.1"),
        (clip_gradients, {"max_grad_norm": 0.1}, {"max_grad_norm": 0.02}, "gradient clipping 0.1 -> 0.02"),
        (smaller_updates, {"epochs": 4, "clip_range": 0.2}, {"epochs": 2, "clip_range": 0.1},
         "epochs 4 -> 2, clip range 0.2 -> 0.1"),
        (smaller_updates, {"epochs": 1, "clip_range": 0.2}, {"epochs": 1, "clip_range": 0.1}, "clip range 0.2 -> 0.1"),
        (smaller_updates, {"epochs": 5}, {"epochs": 2}, "epochs 5 -> 2"),
        (smaller_updates, {"epochs": 1}, {"epochs": 1}, None),
        (raise_entropy_bonus, {"entropy_coef": 0.01}, {"entropy_coef": 0.02}, "entropy bonus 0.01 -> 0.02"),
        (raise_entropy_bonus, {"entropy_coef": 0}, {"entropy_coef": 0.005}, "entropy bonus 0 -> 0.005"),
        (lower_entropy_bonus, {"entropy_coef": 0.5}, {"entropy_coef": 0.1}, "entropy bonus 0.5 -> 0.1"),
        (lower_entropy_bonus, {"entropy_coef": 0}, {"entropy_coef": 0}, None),
        (lower_value_weight, {"value_coef": 0.5}, {"value_coef": 0.1}, "value loss weight 0.5 -> 0.1"),
        (sync_more_often, {"sync_every": 100}, {"sync_every": 1}, "updates from sync to sync 100 -> 1"),
        (sync_more_often, {"sync_every": 1}, {"sync_every": 1}, None),
        (sample_plainly, {"temperature": 5.0}, {"temperature": 1.0}, "sampling temperature 5 -> 1"),
        (sample_plainly, {}, {}, None),
        (normalise_advantages, {"normalize_advantages": False}, {"normalize_advantages": True},
         "advantages are normalised"),
        (normalise_advantages, {"normalize_advantages": True}, {"normalize_advantages": True}, None),
    ],
)  # fmt: skip
def test_a_knob_is_turned(remedy: Any, values: dict[str, Any], after: dict[str, Any], words: str | None) -> None:
    """Where there is one and turning it means something; it says what it did."""
    where = context(**values)
    assert remedy(where) == words
    assert where.levers.values() == after


def test_the_learning_rate_is_a_fifth() -> None:
    """Not applicable without an optimizer, or at a rate of 0."""
    where = context()
    assert lower_learning_rate(where) == "learning rate 0.01 -> 0.002"
    assert where.levers.learning_rate == pytest.approx(0.002)
    assert lower_learning_rate(context(lr=0.0)) is None
    assert lower_learning_rate(Context("x", 1, 0, Levers())) is None


@pytest.mark.parametrize(("before", "after"), [(None, 1.5), (10.0, 1.5), (1.5, None), (1.0, None)])
def test_rewards_are_clipped_to_their_own_scale(before: float | None, after: float | None) -> None:
    """With the evidence in the words; not where the bound is as tight already, or nothing has left it."""
    where = context(reward_clip=before)
    assert clip_rewards(where) is None
    where.rewards = Bound(1.5, 40.0)
    words = clip_rewards(where)
    assert where.levers["reward_clip"] == (after or before)
    if after is None:
        assert words is None
    else:
        assert words is not None
        assert words.endswith("-> 1.5 (99 % of the healthy rewards were within it; since then up to 40)")
    assert clip_rewards(context()) is None


def test_other_data_means_other_random_numbers() -> None:
    """What was drawn with them is not drawn again."""
    where = context()
    assert skip_data(where) is not None
    assert where.rewind_random is False


def test_the_first_applicable_remedy_comes_first() -> None:
    """As on the page; without its knob, the next one."""
    pharmacy = Pharmacy()
    assert pharmacy.apply(context("proxy_divergence", kl_coef=0.1)) == ["KL coefficient 0.1 -> 0.2"]
    assert pharmacy.apply(context("proxy_divergence")) == ["learning rate 0.01 -> 0.002"]
    assert pharmacy.apply(context("entropy_collapse", kl_coef=0.1)) == ["learning rate 0.01 -> 0.002"]
    assert pharmacy.apply(context("never heard of")) == ["learning rate 0.01 -> 0.002"]


def test_it_grows() -> None:
    """The second time the first one again and the next one too."""
    where = context("proxy_divergence", strength=2, kl_coef=0.1)
    assert Pharmacy().apply(where) == ["KL coefficient 0.1 -> 0.2", "learning rate 0.01 -> 0.002"]
    where = context("proxy_divergence", strength=3, kl_coef=0.1, reward_clip=9.0)
    where.rewards = Bound(1.5, 40.0)
    assert len(Pharmacy().apply(where)) == 3


def test_a_critical_kl_gets_two_at_once() -> None:
    """The coefficient alone does not hold it."""
    where = context(kl_coef=0.1, clip_range=0.2)
    assert Pharmacy().apply(where) == ["KL coefficient 0.1 -> 0.2", "learning rate 0.01 -> 0.002"]


def test_what_else_is_open_gets_its_first_remedy() -> None:
    """Once each, after those of the detector that asks; not where the user has a remedy of his own."""
    where = context("reward_collapse", entropy_coef=0.5, kl_coef=0.1, reward_clip=None)
    where.others = ["entropy_explosion", "kl_explosion", "reward_variance_explosion", "entropy_collapse", "throughput"]
    where.rewards = Bound(1.5, 40.0)
    said = ["learning rate 0.01 -> 0.002", "entropy bonus 0.5 -> 0.1", "KL coefficient 0.1 -> 0.2"]
    applied = Pharmacy().apply(where)
    assert applied[:3] == said
    assert applied[3].startswith("reward clipping none -> 1.5 (")
    where.others = ["entropy_explosion"]
    assert Pharmacy(lambda context: "mine").apply(where) == ["mine"]


def test_what_matches_the_failure_is_all_that_a_first_rollback_does() -> None:
    """A setting that was put back, and a bound on rewards that went beyond all healthy ones: no rate is cut."""
    where = context("reward_collapse", reward_clip=None)
    where.others = ["kl_explosion"]
    where.undone = {"entropy_coef": "coefficient of the entropy bonus 1 -> 0.01, as it was"}
    where.rewards = Bound(1.5, 40.0, upward=True)
    put_back, clipped = Pharmacy().apply(where)
    assert put_back == "coefficient of the entropy bonus 1 -> 0.01, as it was"
    assert clipped.startswith("reward clipping none -> 1.5 (")


def test_at_the_second_the_table_follows_it() -> None:
    """What matched did not help."""
    where = context("reward_collapse", strength=2, clip_range=0.2)
    where.undone = {"entropy_coef": "as it was"}
    assert Pharmacy().apply(where) == ["as it was", "learning rate 0.01 -> 0.002"]


def test_punishments_are_no_payments() -> None:
    """A policy that fails is punished more: a bound there is no answer to it, and the table is."""
    where = context("reward_collapse", reward_clip=None)
    where.rewards = Bound(1.5, 40.0)
    assert Pharmacy().apply(where) == ["learning rate 0.01 -> 0.002"]


def test_a_rate_that_jumped_is_cut_by_its_jump() -> None:
    """The schedule will rise again, and then no higher than was healthy; a smaller rise changes nothing."""
    where = context("reward_collapse", lr=1e-4)
    where.risen = 100.0
    assert Pharmacy().apply(where) == ["learning rate 0.0001 -> 1e-06"]
    where.risen = 3.0
    assert Pharmacy().apply(where) == ["learning rate 1e-06 -> 2e-07"]


def test_a_penalty_that_was_switched_off_comes_back() -> None:
    """At what it was when the run began, since zero cannot be doubled."""
    where = context("proxy_divergence", kl_coef=0.4)
    where.levers["kl_coef"] = 0.0
    assert Pharmacy().apply(where) == ["KL coefficient 0 -> 0.4"]
    assert Pharmacy().apply(where) == ["KL coefficient 0.4 -> 0.8"]


def test_a_users_own_remedy_comes_first() -> None:
    """For all detectors or for one; where it returns None the table is tried."""
    seen = []

    def mine(context: Context) -> str | None:
        seen.append(context.detector)
        return "asked the user" if context.detector == "kl_explosion" else None

    for own in (mine, [mine], {"kl_explosion": mine}, {"kl_explosion": [mine]}):
        assert Pharmacy(own).apply(context()) == ["asked the user"]
        assert Pharmacy(own).apply(context("entropy_collapse")) == ["learning rate 0.01 -> 0.002"]
    assert seen.count("entropy_collapse") == 2


@pytest.mark.parametrize("own", [3, "lr", {"kl_explosion": "lr"}, [None], Context])
def test_what_is_no_remedy_is_refused(own: Any) -> None:
    """When the guard is made."""
    with pytest.raises(ValueError, match="a remedy is a function"):
        Pharmacy(own)


def test_what_going_back_cannot_cure() -> None:
    """Unless the user knows a way."""
    assert not Pharmacy().curable("frozen_weights")
    assert Pharmacy().curable("kl_explosion")
    assert Pharmacy().curable("never heard of")
    assert Pharmacy({"frozen_weights": lambda context: "thawed"}).curable("frozen_weights")


WORDS = {
    lower_learning_rate: "learning rate",
    raise_kl: "KL coefficient",
    clip_gradients: "gradient",
    clip_rewards: "rewards",
    normalise_advantages: "normalise the advantages",
}


@pytest.mark.parametrize("detector", [name for name, kind in detector_classes().items() if kind.core])
def test_the_first_remedy_is_on_the_detectors_page(detector: str) -> None:
    """The table and the playbook say the same."""
    table = REMEDIES.get(detector, DEFAULT)
    if table:
        fixes = " ".join(playbook.remedies(detector))
        assert WORDS[table[0]].lower() in fixes.lower() or detector == "reward_drift"


def test_the_knobs_of_the_remedies_are_documented() -> None:
    """Every name that a remedy looks for."""
    names = {"kl_coef", "lr", "max_grad_norm", "reward_clip", "clip_range", "epochs", "entropy_coef"}
    others = {"value_coef", "sync_every", "temperature", "normalize_advantages", "reward_scale"}
    assert names | others == set(KNOBS)
