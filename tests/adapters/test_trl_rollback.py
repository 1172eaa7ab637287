"""A TRL run that breaks goes back inside one `trainer.train()`, changes something and ends healthy."""

from __future__ import annotations

import copy
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support_trl import SILENT, SeenWatch, digits, dpo, grpo, seen_watch, weights
from transformers import TrainerCallback

from rlwatch.adapters.trl import RLWatchCallback
from rlwatch.alert import Action, Alert, Severity, Verdict

pytestmark = pytest.mark.usefixtures("elsewhere")

GOES_BACK = {**SILENT, "strict": True, "on_critical": "rollback", "snapshot_every": 5}


class Told(SeenWatch):
    """A Watch whose verdict at some steps is a critical of a given detector."""

    def __init__(self, told: dict[int, str], **settings: Any) -> None:
        super().__init__(**{**GOES_BACK, **settings})
        self.told = told

    def log(self, metrics: Any = None, *, step: int | None = None, **signals: Any) -> Verdict:
        verdict = super().log(metrics, step=step, **signals)
        if step not in self.told:
            return verdict
        alert = Alert(self.told[step], Severity.CRITICAL, step, "broken", {"rows_since_onset": 2})
        self.health.judged(self.rows - 1, [alert])
        self.verdicts[-1] = Verdict(step, (alert,), Action.ROLLBACK)
        return self.verdicts[-1]


class Journal(TrainerCallback):
    """What the trainer is like before each update and after each step."""

    def __init__(self) -> None:
        self.before: dict[int, dict[str, torch.Tensor]] = {}
        self.after: dict[int, dict[str, torch.Tensor]] = {}
        self.rates: dict[int, float] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.before[state.global_step + 1] = weights(kwargs["model"])
        self.rates[state.global_step + 1] = kwargs["optimizer"].param_groups[0]["lr"]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.after[state.global_step] = weights(kwargs["model"])


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return all(torch.equal(value, other[name]) for name, value in one.items())


def finite(trainer: Any) -> bool:
    """Whether all weights are finite."""
    return all(bool(torch.isfinite(value).all()) for value in trainer.model.parameters())


def event(watch: Any, kind: str = "rollback") -> dict[str, Any]:
    """The only event of its kind."""
    (found,) = [each for each in watch.events if each["event"] == kind]
    return dict(found)


def entries(trainer: Any, kind: str = "rollback") -> list[dict[str, Any]]:
    """What `log_history` says about going back."""
    return [row for row in trainer.state.log_history if f"rlwatch/{kind}" in row]


def told_run(make: Any, folder: Path, told: dict[int, str], steps: int, **changes: Any) -> tuple[Any, Told, Journal]:
    """A run in which rlwatch is made to see criticals."""
    settings = changes.pop("watch", {})
    watch, journal = Told(told, **settings), Journal()
    trainer = make(folder, [RLWatchCallback(watch=watch), journal], steps=steps, **changes)
    trainer.train()
    return trainer, watch, journal


def varied(completions: list[str], **_: Any) -> list[float]:
    """Reward: the share of the digits that differ; a collapsed policy earns next to none."""
    return [len({char for char in text if char.isdigit()}) / 8 for text in completions]


class TooHigh(TrainerCallback):
    """From step 61 on the learning rate is 200 times what it was."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 60:
            kwargs["optimizer"].param_groups[0]["lr"] *= 200
            kwargs["lr_scheduler"].base_lrs = [rate * 200 for rate in kwargs["lr_scheduler"].base_lrs]


def broken_run(folder: Path, on_critical: str, steps: int) -> tuple[Any, SeenWatch, list[float]]:
    """A run whose learning rate becomes far too high: trainer, watch and the reward of each step."""
    watch = seen_watch(**{**GOES_BACK, "on_critical": on_critical})
    given = {"reward_funcs": [varied], "lr_scheduler_type": "constant", "learning_rate": 2e-3}
    sizes = {"per_device_train_batch_size": 16, "num_generations": 8}
    trainer = grpo(folder, [RLWatchCallback(watch=watch), TooHigh()], steps=steps, **given, **sizes)
    trainer.train()
    return trainer, watch, [float(row["rewards"].mean()) for row in watch.seen]


def test_a_learning_rate_far_too_high_is_cured(tmp_path: Path) -> None:
    """Left alone the policy collapses for good; with rollback it ends near the reward that it had before."""
    _, _, lost = broken_run(tmp_path / "lost", "continue", 90)
    trainer, watch, healed = broken_run(tmp_path / "healed", "rollback", 150)
    before = sum(healed[50:60]) / 10
    assert before > 0.5
    assert sum(lost[-10:]) / 10 < 0.1 * before
    assert sum(healed[-10:]) / 10 > 0.85 * before
    told = event(watch)
    assert told["detector"] in {"entropy_collapse", "reward_collapse"}  # at the same step
    assert told["to_step"] <= 60 < told["step"] < 75
    assert trainer.state.global_step == 150
    assert finite(trainer)


def test_the_state_of_then_comes_back_and_the_count_goes_on(tmp_path: Path) -> None:
    """Weights bit for bit those of the target step; the rate a fifth; steps, data and records go forward."""
    trainer, watch, journal = told_run(grpo, tmp_path, {33: "update_imbalance"}, steps=40, logging_steps=4)
    told = event(watch)
    assert same(journal.after[33], journal.before[told["to_step"]])
    assert same(journal.before[34], journal.after[33])
    assert not same(journal.after[34], journal.after[33])
    assert told["to_step"] == 1  # no later state is proven: `reward_drift` looks back furthest
    assert journal.rates[34] == pytest.approx(0.2 * journal.rates[1])
    assert watch.column("step") == list(range(1, 41))
    assert trainer.state.global_step == 40
    (entry,) = entries(trainer)
    assert entry["step"] == 33
    assert "learning rate 0.001 -> 0.0002" in entry["rlwatch/rollback"]
    texts = [tuple(prompts) for prompts in watch.column("prompts")]
    assert len(set(texts)) > 12  # the data did not begin anew (64 prompts, one a step)
    window = next(row for row in trainer.state.log_history if row["step"] == 36 and "reward" in row)
    since = [float(row["rewards"].mean()) for row in watch.seen[33:36]]
    assert window["reward"] == pytest.approx(sum(since) / 3)
    json.dumps(trainer.state.log_history)


class ByHand(TrainerCallback):
    """Without rlwatch: puts the state before the update of one step back after another, and lowers the rate."""

    def __init__(self, to_step: int, step: int) -> None:
        self.to_step, self.step = to_step, step

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step + 1 == self.to_step:
            parts = [kwargs[name].state_dict() for name in ("model", "optimizer", "lr_scheduler")]
            self.state = copy.deepcopy(parts)
            self.random = random.getstate(), np.random.get_state(), torch.get_rng_state()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step != self.step:
            return
        for name, part in zip(("model", "optimizer", "lr_scheduler"), self.state, strict=True):
            kwargs[name].load_state_dict(part)
        scheduler = getattr(kwargs["lr_scheduler"], "scheduler", kwargs["lr_scheduler"])
        for group in kwargs["optimizer"].param_groups:
            group["lr"], group["initial_lr"] = group["lr"] * 0.2, group["initial_lr"] * 0.2
        scheduler.base_lrs = [rate * 0.2 for rate in scheduler.base_lrs]
        random.setstate(self.random[0])
        np.random.set_state(self.random[1])
        torch.set_rng_state(self.random[2])


def test_going_on_is_what_a_run_from_that_state_gives(tmp_path: Path) -> None:
    """Bit for bit: the weights of every later step, with the state put back and the rate lowered by hand instead."""
    given = {"steps": 70, "per_device_train_batch_size": 8, "max_grad_norm": 0.5}
    _, watch, journal = told_run(grpo, tmp_path / "rolled", {60: "update_imbalance"}, **given)
    to_step = event(watch)["to_step"]
    assert 1 < to_step < 60
    twin = Journal()
    grpo(tmp_path / "twin", [ByHand(to_step, 60), twin], **given).train()
    assert same(journal.before[60], twin.before[60])
    assert all(same(journal.after[step], twin.after[step]) for step in range(61, 71))
    assert not same(journal.after[70], journal.after[61])
    assert [journal.rates[step] for step in range(1, 71)] == [twin.rates[step] for step in range(1, 71)]


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_accumulation_steps": 2},
        {"num_iterations": 2},
        {"steps_per_generation": 4, "num_iterations": 2},
    ],
    ids=["accumulation", "iterations", "reused rollouts"],
)
def test_rollouts_of_the_given_up_policy_are_dropped(changes: dict[str, Any], tmp_path: Path) -> None:
    """The step after going back samples anew, and generations keep their rhythm with the data."""
    trainer, watch, journal = told_run(grpo, tmp_path, {13: "update_imbalance"}, steps=20, **changes)
    assert same(journal.after[13], journal.before[event(watch)["to_step"]])
    fresh = [row["step"] for row in watch.seen if "rewards" in row]
    period = changes.get("steps_per_generation", 1) * changes.get("num_iterations", 1)
    assert fresh == sorted({14, *range(1, 21, period)})
    assert trainer._step == 20 * changes.get("gradient_accumulation_steps", 1)
    assert finite(trainer)


def test_remedies_turn_the_live_trainer(tmp_path: Path) -> None:
    """beta and the learning rate, then the clip range and iterations too: each is read by the next step."""
    told = {13: "kl_explosion", 30: "kl_explosion", 45: "kl_explosion"}
    trainer, watch, journal = told_run(
        grpo,
        tmp_path,
        told,
        steps=48,
        beta=0.1,
        num_iterations=2,
        epsilon_high=0.28,
        sync_ref_model=True,
        ref_model_sync_steps=4,
    )
    messages = [each["message"] for each in watch.events]
    assert len(messages) == 3, messages
    assert trainer.beta == pytest.approx(0.8)
    assert journal.rates[48] < 0.05 * journal.rates[1]
    assert (trainer.epsilon_low, trainer.epsilon_high) == (pytest.approx(0.05), pytest.approx(0.07))
    assert trainer.num_iterations == 1
    assert finite(trainer)


def test_a_reference_model_that_follows_the_policy_goes_back_too(tmp_path: Path) -> None:
    """With `sync_ref_model` it was mixed with a policy that is given up."""
    references: dict[int, dict[str, torch.Tensor]] = {}

    class Reference(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            references[state.global_step + 1] = weights(trainer.ref_model)

    watch = Told({14: "kl_explosion"})
    given = {"steps": 15, "beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 4}
    trainer = grpo(tmp_path, [RLWatchCallback(watch=watch), Reference()], **given)
    trainer.train()
    assert not same(references[14], references[1])
    assert event(watch)["to_step"] == 1
    assert same(references[15], references[1])


def test_without_a_reference_model_the_kl_has_no_lever(tmp_path: Path) -> None:
    """At beta=0 the next remedy is taken, and beta stays 0."""
    trainer, watch, _ = told_run(grpo, tmp_path, {13: "kl_explosion"}, steps=15)
    assert trainer.beta == 0.0
    assert event(watch)["remedies"] == ["learning rate 0.001 -> 0.0002"]


def test_rewards_are_clipped_before_anybody_sees_them(tmp_path: Path) -> None:
    """TRL's metric and the recorded samples are those of the rewards clipped to the scale that they had."""

    def wild(completions: list[str], trainer_state: Any, **_: Any) -> list[float]:
        scale = 100.0 if trainer_state.global_step >= 27 else 1.0
        return [scale * (reward + 0.1) for reward in digits(completions)]

    trainer, watch, _ = told_run(grpo, tmp_path, {30: "reward_variance_explosion"}, steps=33, reward_funcs=[wild])
    (words,) = event(watch)["remedies"]
    bound = float(re.match(r"reward clipping none -> (\S+) \(99 % of the healthy rewards", words)[1])
    assert 0.1 < bound <= 1.1
    assert max(watch.seen[29]["rewards"]) > 5
    assert max(watch.seen[30]["rewards"]) == pytest.approx(bound, rel=0.01)
    logged = {row["step"]: row["reward"] for row in trainer.state.log_history if "reward" in row}
    assert logged[30] > 2 > logged[31]


def test_rewards_that_kept_their_scale_are_not_clipped(tmp_path: Path) -> None:
    """However large it is: clipping would flatten them or change nothing, so the next remedy is taken."""

    def large(completions: list[str], **_: Any) -> list[float]:
        return [50 + 10 * reward for reward in digits(completions)]

    _, watch, _ = told_run(grpo, tmp_path, {13: "reward_variance_explosion"}, steps=15, reward_funcs=[large])
    assert not any("clipping" in words for words in event(watch)["remedies"])


def test_nan_after_nan_goes_back(tmp_path: Path) -> None:
    """Five withheld updates in a row ask for it; no NaN reaches the weights, and the run ends."""
    watch = seen_watch(**GOES_BACK)
    trainer = grpo(tmp_path, [RLWatchCallback(watch=watch)], steps=25)
    original = trainer.compute_loss

    def compute_loss(*args: Any, **kwargs: Any) -> Any:
        loss = original(*args, **kwargs)
        return loss * float("nan") if 10 <= trainer.state.global_step < 15 else loss

    trainer.compute_loss = compute_loss
    trainer.train()
    told = event(watch)
    assert (told["detector"], told["step"]) == ("loss_nonfinite", 15)
    assert told["remedies"] == ["gradient clipping 1 -> 0.5"]
    assert trainer.args.max_grad_norm == 0.5
    assert trainer.state.global_step == 25
    assert finite(trainer)
    assert all(math.isfinite(x) for x in watch.column("loss")[15:])


def test_lora(tmp_path: Path) -> None:
    """Adapters go back; the base model, which nothing changes, is not copied."""
    from peft import LoraConfig

    peft = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", lora_dropout=0.1)
    trainer, watch, journal = told_run(grpo, tmp_path, {13: "update_imbalance"}, steps=16, peft_config=peft)
    assert same(journal.after[13], journal.before[event(watch)["to_step"]])
    assert not same(journal.after[16], journal.after[13])
    assert finite(trainer)


def test_dpo(tmp_path: Path) -> None:
    """A trainer without rollouts."""
    trainer, watch, journal = told_run(dpo, tmp_path, {13: "kl_explosion"}, steps=16)
    assert same(journal.after[13], journal.before[event(watch)["to_step"]])
    assert trainer.beta == pytest.approx(0.2)
    assert finite(trainer)


def test_a_spent_budget_halts_with_the_report(tmp_path: Path) -> None:
    """After two rollbacks the third critical stops the run, and says what was tried."""
    told = {13: "kl_explosion", 30: "kl_explosion", 45: "kl_explosion"}
    trainer, watch, _ = told_run(grpo, tmp_path, told, steps=60, watch={"rollback_budget": 2})
    assert trainer.state.global_step == 45
    halt = event(watch, "halt")
    assert "the budget of 2 rollbacks is used up; tried: learning rate" in halt["message"]
    (entry,) = entries(trainer, "halt")
    assert entry["step"] == 45


def test_a_remedy_of_the_users_own(tmp_path: Path) -> None:
    """It is called with the context; what it says is recorded."""

    def mine(context: Any) -> str:
        context.levers.scale_learning_rates(0.5)
        return f"halved after {context.detector}"

    watch = Told({13: "kl_explosion"})
    callback = RLWatchCallback(watch=watch, remedies=mine)
    grpo(tmp_path, [callback], steps=14).train()
    assert event(watch)["remedies"] == ["halved after kl_explosion"]
    with pytest.raises(ValueError, match="a remedy is a function"):
        RLWatchCallback(remedies="lower it")
