"""verl's V0 trainer (`trainer.use_v1=False`, deprecated) under rlwatch: real `fit()` on the CPU."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl", reason="verl is not installed: .ci/verl makes its environment and runs these tests")

import numpy as np
import support_verl
import torch
from support_verl import copying, observing, rewarding, run_v0, weights

pytestmark = [pytest.mark.usefixtures("elsewhere"), pytest.mark.filterwarnings("ignore")]

train = partial(support_verl.train, runner=run_v0)
GRPO = "algorithm.adv_estimator=grpo"
OPTIM = "actor_rollout_ref.actor.optim"
HOT = (GRPO, f"{OPTIM}.lr=0.12", f"{OPTIM}.lr_warmup_steps=60")


def nan_at(step: int) -> Any:
    """The usual reward, NaN at one step."""

    def function(prompts: Any, responses: Any, mask: Any, now: int) -> torch.Tensor:
        return copying(prompts, responses, mask, now) * (torch.nan if now == step else 1.0)

    return function


def test_each_step_is_one_row_with_its_samples(tmp_path: Path) -> None:
    """Rewards, the reward function's further numbers, lengths, groups of four and texts, beside verl's metrics."""
    seen: list[dict[str, Any]] = []
    with observing(seen):
        run = train(tmp_path, GRPO, "trainer.total_training_steps=3")
    assert [row["step"] for row in run.rows()] == [1, 2, 3]
    row = run.rows()[-1]
    assert {"entropy", "loss", "grad_norm", "learning_rate", "clip_fraction", "reward_mean", "reward_std"} <= set(row)
    samples = seen[-1]
    assert samples["rewards"].mean() == pytest.approx(row["reward_mean"])
    assert samples["response_lengths"].mean() == pytest.approx(row["response_length_mean"])
    assert samples["reward_components"]["half"] == pytest.approx(samples["rewards"] / 2)
    assert sorted(np.unique(samples["group_ids"], return_counts=True)[1]) == [4, 4, 4, 4]
    assert len(samples["completions"]) == len(samples["rewards"]) == 16
    assert run.watch.failures == {}
    assert run.session._guest.reasons == {}


def test_a_nan_is_halted_after_one_more_step(tmp_path: Path) -> None:
    """V0 compares its step limit at the start of a step: the checkpoint is of the step of the alert."""
    with rewarding(nan_at(4)):
        run = train(tmp_path, GRPO, "trainer.total_training_steps=12", on_critical="halt")
    assert [(alert.detector, alert.step) for alert in run.watch.alerts] == [("loss_nonfinite", 4)]
    assert run.saved() == [4]
    assert run.steps == 5
    assert len(run.events("halt")) == 1
    assert all(torch.isfinite(value).all() for value in weights(run.trainer).values())


def test_the_last_step_after_a_halt_is_generated_with_the_engine_awake(tmp_path: Path) -> None:
    """The rollout engine sleeps while the checkpoint is saved, and is given the weights again."""
    with rewarding(nan_at(2)):
        run = train(tmp_path, GRPO, "trainer.total_training_steps=9", on_critical="halt")
    # At the start, then asleep and updated at each of two steps, around the checkpoint, and at the step that ends it.
    assert run.trainer.checkpoint_manager.calls == ["update"] + ["sleep", "update"] * 4


def test_a_collapse_is_taken_back_with_a_remedy(tmp_path: Path) -> None:
    """A learning rate far too high: back to a checkpoint from before the onset, at a fifth of the rate."""
    more = ("trainer.save_freq=2", "trainer.total_training_steps=60")
    run = train(tmp_path, *HOT, *more, on_critical="rollback")
    assert run.events("halt") == []
    rolled = run.events("rollback")[0]
    assert rolled["detector"] == "entropy_collapse"
    rows = {row["step"]: row for row in run.rows()}
    back, to = rows[rolled["step"] + 1], rows[rolled["to_step"] + 1]
    assert back["entropy"] == pytest.approx(to["entropy"], rel=0.2)
    assert back["learning_rate"] == pytest.approx(0.2 * 0.12 * (rolled["to_step"] + 1) / 60, rel=0.02)
    assert run.session._guest.reasons == {}


def test_a_resumed_run_goes_on_with_the_watch_of_the_checkpoint(tmp_path: Path) -> None:
    """V0 loads its checkpoint after its loggers are opened: the state is found all the same."""
    train(tmp_path, GRPO, "trainer.save_freq=3", "trainer.total_training_steps=3")
    again = train(tmp_path, GRPO, "trainer.total_training_steps=5")
    assert [row["step"] for row in again.rows()] == [4, 5]
    assert again.watch.rows == 5


def test_the_default_estimator_has_its_critic_watched(tmp_path: Path) -> None:
    """GAE, verl's default."""
    run = train(tmp_path, "trainer.total_training_steps=2")
    assert {"explained_variance", "value_loss", "critic_grad_norm"} <= set(run.rows()[-1])
