"""verl's V1 trainer under rlwatch: real `fit()` on the CPU, watched, healthy and broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl", reason="verl is not installed: .ci/verl makes its environment and runs these tests")

import collapse
import numpy as np
import support_verl
import torch
from support_verl import copying, observing, rewarding, train, weights

from rlwatch.adapters.seams import Seam

pytestmark = [pytest.mark.usefixtures("elsewhere"), pytest.mark.filterwarnings("ignore")]

GRPO = "algorithm.adv_estimator=grpo"
OPTIM = "actor_rollout_ref.actor.optim"
HOT = (GRPO, f"{OPTIM}.lr=1.0", f"{OPTIM}.lr_warmup_steps=60", "trainer.total_training_steps=40")
"""A learning rate that rises by 1/60 a step: far too high from the tenth step on."""


def nan_at(step: int) -> Any:
    """The usual reward, NaN at one step."""

    def function(prompts: Any, responses: Any, mask: Any, now: int) -> torch.Tensor:
        return copying(prompts, responses, mask, now) * (torch.nan if now == step else 1.0)

    return function


def test_each_step_is_one_row_with_its_samples(tmp_path: Path) -> None:
    """What rlwatch sees of a step is what the reward function gave and what verl made of it."""
    given: list[list[tuple[str, int, float]]] = []

    def noting(prompts: Any, responses: Any, mask: Any, step: int) -> torch.Tensor:
        scores = copying(prompts, responses, mask, step)
        texts = [support_verl.text_of(ids[keep]) for ids, keep in zip(responses, mask, strict=True)]
        given.append(list(zip(texts, mask.sum(-1).tolist(), scores.tolist(), strict=True)))
        return scores

    seen: list[dict[str, Any]] = []
    with rewarding(noting), observing(seen):
        run = train(tmp_path, GRPO, "trainer.total_training_steps=3")
    assert run.steps == 3
    assert [row["step"] for row in run.rows()] == [1, 2, 3]
    for expected, samples in zip(given, seen, strict=True):
        # verl balances the batch, so that the order differs.
        columns = (samples["completions"], samples["response_lengths"], np.round(samples["rewards"], 6))
        rounded = [(text, length, round(score, 6)) for text, length, score in expected]
        assert sorted(zip(*columns, strict=True)) == sorted(rounded)
        for group in np.unique(samples["group_ids"]):
            inside = samples["group_ids"] == group
            assert inside.sum() == 4
            rewards, advantages = samples["rewards"][inside], samples["advantages"][inside]
            spread = rewards.std(ddof=1)
            assert advantages == pytest.approx((rewards - rewards.mean()) / (spread + 1e-6), abs=1e-4)
    row = run.rows()[-1]
    assert {"entropy", "loss", "grad_norm", "learning_rate", "clip_fraction", "approx_kl", "staleness"} <= set(row)
    assert run.watch.failures == {}


def test_the_collapse_that_every_adapter_is_given_is_told_at_the_same_step(tmp_path: Path) -> None:
    """The rewards of `collapse`, at the step at which `Watch.log` alone tells it."""

    def fallen(prompts: Any, responses: Any, mask: Any, step: int) -> torch.Tensor:
        return torch.tensor(collapse.rewards(step))

    sizes = ("actor.ppo_mini_batch_size=2", "actor.ppo_micro_batch_size_per_gpu=8", "actor.optim.lr=1e-5")
    sizes += tuple(f"{part}.log_prob_micro_batch_size_per_gpu=8" for part in ("ref", "rollout"))
    small = ("data.train_batch_size=2", *(f"actor_rollout_ref.{size}" for size in sizes))
    with rewarding(fallen):
        run = train(tmp_path, GRPO, *small, f"trainer.total_training_steps={collapse.STEPS}")
    assert abs(collapse.alerted(run.watch) - collapse.FIRST) <= 1


def test_a_watched_run_is_the_same_run(tmp_path: Path) -> None:
    """The weights are bit for bit those of a run without rlwatch, and nothing of the trainer stays wrapped."""
    from verl.trainer.ppo.v1 import trainer_base

    bare = train(tmp_path / "bare", GRPO, "trainer.total_training_steps=4", "trainer.logger=[]")
    watched = train(tmp_path / "watched", GRPO, "trainer.total_training_steps=4")
    assert bare.session is None
    assert watched.watch.rows == 4
    for name, value in weights(bare.trainer).items():
        assert torch.equal(value, weights(watched.trainer)[name]), name
    assert not [name for name, value in vars(watched.trainer).items() if isinstance(value, Seam)]
    assert not isinstance(trainer_base.compute_data_metrics, Seam)


def test_a_learning_rate_far_too_high_is_halted_with_a_checkpoint(tmp_path: Path) -> None:
    """The collapse of the entropy stops the run at the step of its alert, and the weights are on disk."""
    run = train(tmp_path, *HOT, on_critical="halt")
    critical = [alert for alert in run.watch.alerts if alert.critical]
    assert critical[0].detector == "entropy_collapse"
    assert run.steps == critical[0].step < 30
    assert run.saved() == [run.steps]
    (halt,) = run.events("halt")
    assert halt["step"] == run.steps
    assert str(run.folder / "checkpoints" / f"global_step_{run.steps}") in halt["message"]


def test_a_healthy_run_is_left_alone(tmp_path: Path) -> None:
    """Forty steps at a sound learning rate: no critical, no stop, no checkpoint that nobody asked for."""
    run = train(tmp_path, GRPO, f"{OPTIM}.lr=5e-3", "trainer.total_training_steps=40", on_critical="halt")
    assert run.steps == 40
    assert [alert.detector for alert in run.watch.alerts] == []
    assert run.saved() == []
    assert run.events("halt") == []


def test_a_nan_is_halted_at_its_step_and_the_weights_are_sound(tmp_path: Path) -> None:
    """A NaN reward makes the loss and the gradient NaN: verl drops the update, rlwatch stops the run there."""
    with rewarding(nan_at(5)):
        run = train(tmp_path, GRPO, "trainer.total_training_steps=12", on_critical="halt")
    assert [(alert.detector, alert.step) for alert in run.watch.alerts] == [("loss_nonfinite", 5)]
    assert run.steps == 5
    assert run.saved() == [5]
    assert all(torch.isfinite(value).all() for value in weights(run.trainer).values())


def test_without_a_halt_the_run_goes_on(tmp_path: Path) -> None:
    """By default rlwatch alerts only: the run takes all its steps."""
    with rewarding(nan_at(3)):
        run = train(tmp_path, GRPO, "trainer.total_training_steps=6")
    assert [alert.detector for alert in run.watch.alerts] == ["loss_nonfinite"]
    assert run.steps == 6
    assert run.saved() == []


def test_the_checkpoint_of_a_halt_pushes_out_no_other(tmp_path: Path) -> None:
    """verl keeps one checkpoint, of step 4: it is still there after the halt has saved that of step 5."""
    keep = ("trainer.save_freq=2", "trainer.max_actor_ckpt_to_keep=1")
    with rewarding(nan_at(5)):
        run = train(tmp_path, GRPO, *keep, "trainer.total_training_steps=12", on_critical="halt")
    assert run.saved() == [4, 5]
    assert run.trainer.config.trainer.max_actor_ckpt_to_keep == 1


def test_a_step_that_verl_has_saved_is_not_saved_again(tmp_path: Path) -> None:
    """The halt falls on a step with a checkpoint of verl's own."""
    saves: list[int] = []
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    original = PPOTrainer._save_checkpoint

    def counting(self: Any) -> None:
        saves.append(self.global_steps)
        original(self)

    PPOTrainer._save_checkpoint = counting
    try:
        with rewarding(nan_at(4)):
            run = train(tmp_path, GRPO, "trainer.save_freq=2", "trainer.total_training_steps=12", on_critical="halt")
    finally:
        PPOTrainer._save_checkpoint = original
    assert saves == [2, 4]
    assert run.steps == 4


def test_the_critic_is_watched_with_verls_default_estimator(tmp_path: Path) -> None:
    """GAE, verl's default: the preset is ppo, the critic's signals come."""
    run = train(tmp_path, "trainer.total_training_steps=3")
    assert run.watch.settings.preset == "ppo"
    assert {"explained_variance", "value_loss", "value_mean", "critic_grad_norm"} <= set(run.rows()[-1])


@pytest.mark.parametrize(
    ("switch", "more"),
    [
        ("actor_rollout_ref.actor.use_kl_loss=True", {"kl", "kl_coef"}),
        ("algorithm.use_kl_in_reward=True", {"kl", "kl_coef"}),
    ],
)
def test_the_kl_to_the_reference_is_seen_where_verl_computes_it(tmp_path: Path, switch: str, more: set[str]) -> None:
    """With a KL loss, or a KL penalty in the reward under an adaptive coefficient, whose target verl does not log."""
    run = train(tmp_path, GRPO, switch, "algorithm.kl_ctrl.type=adaptive", "trainer.total_training_steps=2")
    expected = more | ({"kl_target"} if "in_reward" in switch else set())
    assert expected <= set(run.rows()[-1])


def test_a_failure_of_ours_costs_the_samples_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that cannot be read: the run takes all its steps, each of them judged."""
    from rlwatch.adapters.verl import session

    def broken(*_: Any) -> dict[str, Any]:
        raise RuntimeError("no samples today")

    monkeypatch.setattr(session, "samples_of", broken)
    run = train(tmp_path, GRPO, "trainer.total_training_steps=5")
    assert run.steps == 5
    assert run.watch.rows == 5
    assert "no samples today" in run.session._guest.reasons["compute_data_metrics"]


def test_the_stand_in_learns(tmp_path: Path) -> None:
    """The loop really trains: the reward of the last steps is well above that of the first."""
    with rewarding(lambda prompts, responses, mask, step: (responses == 2).float().mean(-1)):
        run = train(tmp_path, GRPO, "trainer.total_training_steps=12")
    rewards = [row["reward_mean"] for row in run.rows()]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.2
    assert support_verl.reward is copying
