"""What each optimizer step of the TRL trainers looks like to the Watch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support_trl import SILENT, brief, digits, dpo, grpo, kto, online_dpo, prompts, rloo, seen_watch, weights
from transformers import TrainerCallback

from rlwatch.adapters.seams import Seams
from rlwatch.adapters.trl import RLWatchCallback

TRAINERS = {"grpo": grpo, "rloo": rloo, "dpo": dpo, "kto": kto, "online_dpo": online_dpo}
NOT_METRICS = ("epoch", "step")

pytestmark = pytest.mark.usefixtures("elsewhere")


def run(make: Any, folder: Path, **changes: Any) -> tuple[Any, Any]:
    """Train with a strict SeenWatch; the trainer and the watch."""
    watch = seen_watch(strict=True)
    trainer = make(folder, [RLWatchCallback(watch=watch)], **changes)
    trainer.train()
    return trainer, watch


def logged(trainer: Any) -> list[dict[str, float]]:
    """Hugging Face's own log of the training steps."""
    return [row for row in trainer.state.log_history if "loss" in row]


@pytest.mark.parametrize("name", TRAINERS)
def test_a_row_holds_what_trl_logs_for_that_step(name: str, tmp_path: Path) -> None:
    """With a log at each step, every key of it is in the row, with the same value."""
    trainer, watch = run(TRAINERS[name], tmp_path, steps=4, logging_steps=1)
    assert [row["step"] for row in watch.seen] == [row["step"] for row in logged(trainer)] == [1, 2, 3, 4]
    for row, log in zip(watch.seen, logged(trainer), strict=True):
        for key, value in log.items():
            if key not in NOT_METRICS:
                key = "kl_sequence" if (name, key) == ("kto", "kl") else key
                rounded = 1e-4 if key == "loss" else 1e-6  # OnlineDPO rounds the loss it logs
                assert row[key] == pytest.approx(value, abs=rounded), key


@pytest.mark.parametrize("name", TRAINERS)
def test_every_step_is_seen_whatever_logging_steps_is(name: str, tmp_path: Path) -> None:
    """One log for six steps is the mean of six rows, and the last of them ends the run."""
    trainer, watch = run(TRAINERS[name], tmp_path, steps=6, logging_steps=6)
    (log,) = logged(trainer)
    assert watch.column("step") == [1, 2, 3, 4, 5, 6]
    assert len(set(watch.column("loss"))) > 1
    for key in ("loss", "entropy", "reward", "rewards/margins", "objective/kl", "completions/mean_length"):
        if key in log:
            assert np.mean(watch.column(key)) == pytest.approx(log[key], abs=1e-4), key
    assert watch.column("grad_norm")[-1] == pytest.approx(log["grad_norm"])
    assert watch.column("learning_rate")[-1] == pytest.approx(log["learning_rate"])


def test_rows_hold_the_samples_that_the_reward_functions_saw(tmp_path: Path) -> None:
    """Texts, rewards by function, their sum, groups, lengths and advantages belong to the same samples."""
    calls: list[list[str]] = []

    def count(completions: list[str], **_: Any) -> list[float]:
        calls.append(completions)
        return [float(len(text)) for text in completions]

    changes = {"reward_funcs": [digits, brief, count], "reward_weights": [1.0, 2.0, 0.5], "logging_steps": 10}
    _trainer, watch = run(grpo, tmp_path, per_device_train_batch_size=8, **changes)
    assert len(calls) == len(watch.seen) == 4
    for texts, row in zip(calls, watch.seen, strict=True):
        parts = row["reward_components"]
        assert row["completions"] == texts
        assert list(parts) == ["digits", "brief", "count"]
        assert parts["digits"] == pytest.approx(digits(texts))
        assert parts["count"].tolist() == [len(text) for text in texts]
        expected = parts["digits"] + 2.0 * np.nan_to_num(parts["brief"]) + 0.5 * parts["count"]
        assert row["rewards"] == pytest.approx(expected)
        assert np.mean(row["rewards"]) == pytest.approx(row["reward"])
        assert row["group_ids"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
        assert row["prompts"][0] == row["prompts"][3] != row["prompts"][4]
        assert np.mean(row["response_lengths"]) == pytest.approx(row["completions/mean_length"])
        assert np.sum(row["advantages"]) == pytest.approx(0.0, abs=1e-3)


def test_a_sample_that_no_function_scores_has_no_reward(tmp_path: Path) -> None:
    """None from every reward function is a NaN reward of that sample, as in TRL, and of no other."""

    def silent_on_first(completions: list[str], **_: Any) -> list[float | None]:
        return [None] + [1.0] * (len(completions) - 1)

    _, watch = run(grpo, tmp_path, steps=1, reward_funcs=[silent_on_first])
    assert np.isnan(watch.seen[0]["rewards"]).tolist() == [True, False, False, False]


def test_a_step_that_reuses_a_rollout_has_no_rewards(tmp_path: Path) -> None:
    """With num_iterations=2 every second step carries losses and KL, but no reward and no samples."""
    _, watch = run(grpo, tmp_path, steps=6, num_iterations=2, beta=0.04)
    for key in ("reward", "rewards", "advantages", "completions", "completions/mean_length"):
        assert [value is not None for value in watch.column(key)] == [True, False] * 3, key
    assert all(math.isfinite(kl) for kl in watch.column("kl"))


def test_samples_come_with_the_step_that_sampled_them(tmp_path: Path) -> None:
    """With steps_per_generation=2 one rollout of eight samples feeds two optimizer steps."""
    _, watch = run(grpo, tmp_path, steps=4, steps_per_generation=2)
    sizes = [None if rewards is None else len(rewards) for rewards in watch.column("rewards")]
    assert sizes == [8, None, 8, None]


def test_accumulation_is_one_step(tmp_path: Path) -> None:
    """The loss of a step is that of its four micro-batches together, as Hugging Face logs it."""
    for name in ("grpo", "dpo"):
        trainer, watch = run(TRAINERS[name], tmp_path / name, steps=3, gradient_accumulation_steps=4)
        assert watch.column("step") == [1, 2, 3]
        assert watch.column("loss") == pytest.approx([row["loss"] for row in logged(trainer)], abs=1e-6)


def test_the_norm_is_the_one_before_clipping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tight clipping, with none, and where transformers has no `_get_grad_norm` (before 5.10)."""
    trainer, watch = run(dpo, tmp_path, steps=1, max_grad_norm=0.01)
    (norm,) = watch.column("grad_norm")
    assert norm > 0.1
    add = Seams.add

    def older(self: Seams, owner: Any, name: str, *args: Any, **kwargs: Any) -> bool:
        return name != "_get_grad_norm" and add(self, owner, name, *args, **kwargs)

    monkeypatch.setattr(Seams, "add", older)
    # Before 5.10 transformers itself computes no norm where nothing is clipped.
    for limit in (0.01, 0.0) if hasattr(trainer, "_get_grad_norm") else (0.01,):
        _, watch = run(dpo, tmp_path, steps=1, max_grad_norm=limit)
        assert watch.column("grad_norm") == [norm]


def test_two_rollouts_in_one_step_are_joined(tmp_path: Path) -> None:
    """A step that accumulates over two generations has the samples of both, in groups of their own."""
    _, watch = run(grpo, tmp_path, steps=2, gradient_accumulation_steps=4, steps_per_generation=2)
    for row in watch.seen:
        assert {len(row[key]) for key in ("rewards", "advantages", "completions", "response_lengths")} == {16}
        assert row["group_ids"].tolist() == [group for group in range(4) for _ in range(4)]
        assert len(row["reward_components"]["digits"]) == 16


def test_evaluation_is_not_training(tmp_path: Path) -> None:
    """An evaluation in the middle adds no row and no sample; its metrics come with the next step."""
    evaluation = {"eval_strategy": "steps", "eval_steps": 2, "eval_on_start": True, "eval_dataset": prompts(8)}
    trainer, watch = run(grpo, tmp_path, steps=4, logging_steps=10, **evaluation)
    assert sum("eval_reward" in row for row in trainer.state.log_history) == 3
    assert watch.column("step") == [1, 2, 3, 4]
    assert all(len(row["rewards"]) == 4 for row in watch.seen)
    evaluated = [row["eval_reward"] for row in trainer.state.log_history if "eval_reward" in row]
    assert watch.column("eval_reward") == [evaluated[0], None, evaluated[1], None]


def test_lora_and_gradient_checkpointing(tmp_path: Path) -> None:
    """A PEFT policy with checkpointed activations gives the same signals, KL included."""
    from peft import LoraConfig

    adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    _, watch = run(grpo, tmp_path, peft_config=adapter, beta=0.04, gradient_checkpointing=True)
    for key in ("loss", "grad_norm", "kl", "entropy", "reward", "learning_rate"):
        assert all(math.isfinite(value) for value in watch.column(key)), key


def test_online_dpo_gets_kl_and_entropy_per_token(tmp_path: Path) -> None:
    """TRL logs both as sums over a response: the per-token values are those sums over the tokens, without padding."""
    _, watch = run(online_dpo, tmp_path, steps=3, learning_rate=1e-2)
    full = [row for row in watch.seen if set(row["response_lengths"]) == {8.0}]
    assert full
    for row in full:
        assert row["kl"] == pytest.approx(row["objective/kl"] / 8, abs=1e-6)
        assert row["entropy"] == pytest.approx(row["objective/entropy"] / 8, rel=1e-6)
    assert watch.seen[0]["group_ids"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


ROLLOUTS = (
    "length_exploitation reward_collapse reward_degenerate reward_drift reward_variance_explosion side_metrics"
    " advantage_spike clip_fraction"
)
ALWAYS = "loss_nonfinite entropy_collapse entropy_explosion frozen_weights gradient_spike throughput"
ARMED = {
    "grpo": ROLLOUTS,
    "rloo": f"{ROLLOUTS} kl_explosion",
    "dpo": "",
    "kto": "kl_explosion",
    "online_dpo": f"{ROLLOUTS.replace(' advantage_spike clip_fraction', '')} kl_explosion",
}
NOTHING_TO_SEE = {
    "grpo": "kl_controller reward_bimodality rollout_mismatch staleness",
    "rloo": "kl_controller reward_bimodality rollout_mismatch staleness",
    "dpo": "",
    "kto": "",
    "online_dpo": "kl_controller reward_bimodality",
}
"""Starved, and the fix says that none is needed."""
ADVICE = {"grpo": "kl_explosion proxy_divergence", "rloo": "proxy_divergence", "dpo": "kl_explosion"}
"""Starved, and the fix names a setting or a line of this trainer."""
PRESETS = {"grpo": "grpo", "rloo": "grpo", "dpo": "dpo", "kto": "dpo", "online_dpo": "dpo"}


@pytest.mark.parametrize("name", TRAINERS)
def test_the_callback_alone_reaches_full_coverage(name: str, tmp_path: Path) -> None:
    """All 22 on the trainer's defaults: armed by what the trainer gives, off by its nature, or starved with a fix."""
    callback = RLWatchCallback(**SILENT, catalogue="full")
    TRAINERS[name](tmp_path, [callback], steps=51, logging_steps=10).train()
    assert callback.watch is not None
    assert callback.watch.settings.preset == PRESETS[name]
    coverage = callback.watch.coverage()
    armed = {line.detector for line in coverage.in_state("armed")}
    starved = {line.detector: line.fix for line in coverage.in_state("starved")}
    assert armed == {*ALWAYS.split(), *ARMED[name].split()}, str(coverage)
    assert {each for each, fix in starved.items() if "none is needed" in fix} == {*NOTHING_TO_SEE[name].split()}
    assert starved.keys() == {*NOTHING_TO_SEE[name].split(), *ADVICE.get(name, "").split()}, str(coverage)
    assert not any(fix.startswith("log ") for fix in starved.values()), "only the generic fix"
    assert len(coverage.detectors) == 22


def test_the_norm_of_the_update_before_comes_every_tenth_step(tmp_path: Path) -> None:
    """It is that of the weights' change, and an update that was withheld is not measured."""
    before: list[dict[str, torch.Tensor]] = []

    class Weights(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            before.append(weights(kwargs["model"]))

    watch = seen_watch(strict=True)
    trainer = grpo(tmp_path, [RLWatchCallback(watch=watch), Weights()], steps=13)
    trainer.train()
    measured = {row["step"]: row["update_norm"] for row in watch.seen if "update_norm" in row}
    assert list(measured) == [2, 12]
    for step, norm in measured.items():
        then, now = before[step - 2], before[step - 1]
        change = sum(float((now[name] - then[name]).double().square().sum()) for name in now) ** 0.5
        assert norm == pytest.approx(change, rel=1e-4)
    assert not trainer.optimizer.optimizer._optimizer_step_post_hooks


def test_a_preset_of_the_users_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By keyword or by environment: the trainer's class decides only where nobody else has."""
    callback = RLWatchCallback("rlvr", **SILENT)
    grpo(tmp_path, [callback], steps=1).train()
    assert callback.watch is not None
    assert callback.watch.settings.preset == "rlvr"
    monkeypatch.setenv("RLWATCH_PRESET", "ppo")
    callback = RLWatchCallback(**SILENT)
    grpo(tmp_path, [callback], steps=1).train()
    assert callback.watch is not None
    assert callback.watch.settings.preset == "ppo"


def test_kl_at_beta_zero_is_starved_with_the_fix(tmp_path: Path) -> None:
    """TRL's default computes no KL: the table says so, and which setting changes it."""
    _, watch = run(grpo, tmp_path, steps=6)
    line = watch.coverage()["kl_explosion"]
    assert line.state == "starved"
    assert "GRPOConfig(beta=0.001)" in line.fix
    _, watch = run(grpo, tmp_path, steps=6, beta=0.001)
    assert watch.coverage()["kl_explosion"].state != "starved"
