"""verl's V1 trainer under rlwatch: going back to a checkpoint inside of `fit()`, resuming with the Watch's state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl", reason="verl is not installed: .ci/verl makes its environment and runs these tests")

import support_verl
import torch
from support_verl import copying, rewarding, train, weights

from rlwatch.adapters.verl.knobs import CALL, READ, _worker_side, knobs_of, run_in_workers
from rlwatch.responses.checkpoints import read_tags

pytestmark = [pytest.mark.usefixtures("elsewhere"), pytest.mark.filterwarnings("ignore")]

GRPO = "algorithm.adv_estimator=grpo"
OPTIM = "actor_rollout_ref.actor.optim"
HOT = (GRPO, f"{OPTIM}.lr=0.2", f"{OPTIM}.lr_warmup_steps=60")
EVERY_2 = "trainer.save_freq=2"
BACK = {"on_critical": "rollback"}


def nan_from(step: int, until: int = 10**6) -> Any:
    """The usual reward, NaN from one step to another."""

    def function(prompts: Any, responses: Any, mask: Any, now: int) -> torch.Tensor:
        return copying(prompts, responses, mask, now) * (torch.nan if step <= now <= until else 1.0)

    return function


def test_a_collapse_is_taken_back_with_a_remedy(tmp_path: Path) -> None:
    """A warm-up to a rate far too high: back to a checkpoint from before the onset, the rate cut by what it had risen
    above all that was well, a fifth at least; data forward."""
    run = train(tmp_path, *HOT, EVERY_2, "trainer.total_training_steps=38", **BACK)
    (rolled,) = run.events("rollback")[:1]
    assert rolled["detector"] == "entropy_collapse"
    assert rolled["to_step"] % 2 == 0
    assert rolled["to_step"] < rolled["step"]
    rows = {row["step"]: row for row in run.rows()}
    assert sorted(rows) == list(range(1, run.steps + 1))
    # The row after going back is measured on the weights of the checkpoint: the policy has its entropy again.
    assert rows[rolled["step"]]["entropy"] < 0.1
    assert rows[rolled["step"] + 1]["entropy"] == pytest.approx(rows[rolled["to_step"] + 1]["entropy"], rel=0.2)
    # The schedule goes on from the checkpoint's step, cut; it had been at a checkpoint of every second step.
    risen = run.session._back.history.done[0].risen
    assert rolled["step"] / risen == pytest.approx(round(rolled["step"] / risen / 2) * 2)
    cut = min(0.2, 1.0 / risen)
    assert rows[rolled["step"] + 1]["learning_rate"] == pytest.approx(
        0.2 * cut * (rolled["to_step"] + 1) / 60, rel=0.02
    )
    assert any("learning rate" in remedy for remedy in rolled["remedies"])
    assert run.watch.failures == {}
    assert run.session._guest.reasons == {}


def test_a_remedy_is_told_what_had_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule that jumps, a clip range that somebody widens, rewards a hundred times as large, and a NaN."""
    real = support_verl.sample

    def worse(trainer: Any, prompts: torch.Tensor) -> Any:
        if trainer.global_steps == 9:
            run_in_workers(trainer.actor_rollout_wg, {"clip_range": 10.0})
            trainer.actor_rollout_wg.worker.actor.engine.lr_scheduler.lr_lambdas = [lambda _: 30.0]
        return real(trainer, prompts)

    def paid_more(prompts: torch.Tensor, responses: torch.Tensor, mask: torch.Tensor, now: int) -> torch.Tensor:
        paid = copying(prompts, responses, mask, now) * (100.0 if now == 9 else 1.0)
        return paid.index_fill(0, torch.tensor([0]), torch.nan) if now == 9 else paid

    monkeypatch.setattr(support_verl, "sample", worse)
    with rewarding(paid_more):
        run = train(tmp_path, GRPO, EVERY_2, "trainer.total_training_steps=12", on_nonfinite="continue", **BACK)
    (event,) = run.events("rollback")
    assert event["remedies"] == ["PPO's clip range 2 -> 0.2, as it was"]
    (rolled,) = run.session._back.history.done
    assert (rolled.detector, rolled.step) == ("loss_nonfinite", 9)
    assert rolled.risen == pytest.approx(30.0)
    assert rolled.rewards.limit <= 1.0
    assert rolled.rewards.reached > 10.0
    assert run_in_workers(run.trainer.actor_rollout_wg)["clip_range"] == pytest.approx(0.2)
    written = json.loads((tmp_path / "checkpoints" / "global_step_12" / "rlwatch.json").read_text())["rollback"]
    assert written["done"][0]["undone"] == {"clip_range": event["remedies"][0]}
    assert written["values"] == pytest.approx({"clip_range": 0.2, "max_grad_norm": 1.0})
    assert run.session._guest.reasons == {}


def test_the_engine_is_given_the_weights_of_the_checkpoint(tmp_path: Path) -> None:
    """After going back the rollout engine was put to sleep, and then updated, as at a resume."""
    run = train(tmp_path, *HOT, EVERY_2, "trainer.total_training_steps=37", **BACK)
    assert run.events("rollback")
    calls = run.trainer.checkpoint_manager.calls
    assert any(calls[i : i + 2] == ["sleep", "update"] for i in range(len(calls) - 1))
    assert calls.count("update") > run.steps


def test_without_a_checkpoint_the_run_halts_and_says_so(tmp_path: Path) -> None:
    """save_freq=-1, verl's default: nothing to go back to."""
    run = train(tmp_path, *HOT, "trainer.total_training_steps=45", **BACK)
    (halt,) = run.events("halt")
    assert "no checkpoint from before the trouble" in halt["message"]
    assert run.steps == halt["step"] < 45
    assert run.saved() == [run.steps]


def test_where_loading_fails_the_run_stops_and_names_the_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that cannot be loaded: no half-restored weights, the exact settings to go on, no new checkpoint."""
    from rlwatch.adapters.verl import going_back

    def broken(*_: Any) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(going_back, "load", broken)
    run = train(tmp_path, *HOT, EVERY_2, "trainer.total_training_steps=45", **BACK)
    (halt,) = run.events("halt")
    assert "the disk is gone" in halt["message"]
    assert f"trainer.resume_mode=resume_path trainer.resume_from_path={halt['checkpoint']}" in halt["message"]
    assert run.steps == halt["step"]
    assert Path(halt["checkpoint"], "actor").is_dir()
    monkeypatch.undo()

    again = train(
        tmp_path, *HOT, EVERY_2, "trainer.resume_mode=resume_path", f"trainer.resume_from_path={halt['checkpoint']}",
        f"trainer.total_training_steps={run.steps}", **BACK,
    )  # fmt: skip
    first = again.rows()[0]
    assert first["step"] == int(halt["checkpoint"].rpartition("_")[2]) + 1
    (resumed,) = again.events("rollback")
    assert "resumed from the checkpoint" in resumed["message"]
    assert first["learning_rate"] > again.rows()[1]["learning_rate"]


def test_a_failure_that_returns_at_once_ends_the_run(tmp_path: Path) -> None:
    """NaN rewards from step 9 on: their updates never reach the weights; going back does not help, so the run ends."""
    with rewarding(nan_from(9)):
        run = train(tmp_path, GRPO, EVERY_2, "trainer.total_training_steps=45", **BACK)
    assert len(run.events("rollback")) == 1
    (halt,) = run.events("halt")
    assert "came back" in halt["message"]
    assert run.steps < 30
    assert all(torch.isfinite(value).all() for value in weights(run.trainer).values())


def test_checkpoints_are_tagged(tmp_path: Path) -> None:
    """rlwatch_health.json: checkpoints from before a lasting trouble are not poisoned, those in it are."""
    run = train(tmp_path, *HOT, EVERY_2, "trainer.total_training_steps=38")
    tags = {tag.step: tag.health for tag in read_tags(tmp_path / "checkpoints")}
    onset = next(alert.step for alert in run.watch.alerts if alert.critical)
    assert tags[2] != "poisoned"
    assert tags[onset + onset % 2] == "poisoned"


def test_a_resumed_run_goes_on_with_the_watch_of_the_checkpoint(tmp_path: Path) -> None:
    """resume_mode=auto: rows and detectors go on from the checkpoint's state, without a second warm-up."""
    first = train(tmp_path, GRPO, "trainer.save_freq=6", "trainer.total_training_steps=6")
    again = train(tmp_path, GRPO, "trainer.total_training_steps=8")
    assert [row["step"] for row in again.rows()] == [7, 8]
    assert again.watch.rows == 8
    before, after = (run.watch.state_dict()["detectors"]["entropy_collapse"] for run in (first, again))
    assert before.keys() == after.keys()
    assert again.watch.coverage()["entropy_collapse"].seen == 8


def test_a_broken_state_starts_afresh(tmp_path: Path) -> None:
    """A truncated rlwatch.json costs the warm-up, not the run."""
    train(tmp_path, GRPO, "trainer.save_freq=2", "trainer.total_training_steps=2")
    path = tmp_path / "checkpoints" / "global_step_2" / "rlwatch.json"
    assert json.loads(path.read_text())["step"] == 2
    path.write_text(path.read_text()[:100])
    again = train(tmp_path, GRPO, "trainer.total_training_steps=4")
    assert again.steps == 4
    assert again.watch.rows == 2


def test_knobs_reach_the_workers(tmp_path: Path) -> None:
    """Each knob changes the number that verl's worker reads, by verl's own way of running a function there."""
    on = ("actor_rollout_ref.actor.use_kl_loss=True", "actor_rollout_ref.actor.entropy_coeff=0.01")
    run = train(tmp_path, *on, "trainer.total_training_steps=1")
    trainer, worker = run.trainer, run.trainer.actor_rollout_wg.worker
    knobs = knobs_of(trainer)
    assert set(knobs) == {"lr", "kl_coef", "clip_range", "entropy_coef", "max_grad_norm"}
    for holder, name in knobs.values():
        setattr(holder, name, getattr(holder, name) * 0.5)
    config = worker.actor.loss_fn.keywords["config"]
    assert (config.kl_loss_coef, config.entropy_coeff) == pytest.approx((0.0005, 0.005))
    assert (config.clip_ratio_low, config.clip_ratio_high) == pytest.approx((0.1, 0.1))
    for group in (trainer.actor_rollout_wg, trainer.critic_wg):
        engine = getattr(group.worker, "actor", group.worker).engine
        assert engine.optimizer.param_groups[0]["lr"] == pytest.approx(5e-3)
        assert engine.lr_scheduler.base_lrs == pytest.approx([5e-3])
        assert engine.optimizer_config.clip_grad == pytest.approx(0.5)
    assert run_in_workers(trainer.actor_rollout_wg)["lr"] == pytest.approx(5e-3)


def test_knobs_reach_every_worker_of_a_ray_group(tmp_path: Path) -> None:
    """Through verl's own worker group, in two Ray workers: read from the first, changed in both, nothing else."""
    import ray
    from verl.single_controller.base import Worker
    from verl.single_controller.ray import RayClassWithInitArgs, RayResourcePool, RayWorkerGroup
    from verl.single_controller.ray.base import create_colocated_worker_cls

    support_verl.cluster()

    class Small(Worker):
        """A worker with an engine of one weight."""

        def __init__(self) -> None:
            super().__init__()
            from types import SimpleNamespace

            optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=1e-3)
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
            limits = SimpleNamespace(clip_grad=1.0)
            self.engine = SimpleNamespace(optimizer=optimizer, lr_scheduler=scheduler, optimizer_config=limits)
            self.loss_fn = None

    classes = {"actor": RayClassWithInitArgs(ray.remote(Small))}
    pool = RayResourcePool([2], use_gpu=False, max_colocate_count=1)
    workers = RayWorkerGroup(pool, create_colocated_worker_cls(classes), device_name="cpu")
    group = workers.spawn({"actor"})["actor"]
    before = run_in_workers(group)
    assert (before["lr"], before["max_grad_norm"]) == pytest.approx((1e-3, 1.0))
    run_in_workers(group, {"lr": 0.2})
    reported = getattr(group, CALL)(_worker_side({})).batch["numbers"]
    assert reported.shape == (2, len(READ))
    assert reported[:, READ["lr"]].tolist() == pytest.approx([2e-4, 2e-4])
    assert reported[:, READ["max_grad_norm"]].tolist() == pytest.approx([1.0, 1.0])


def test_a_coefficient_in_the_reward_is_a_knob(tmp_path: Path) -> None:
    """With algorithm.use_kl_in_reward the driver's controller holds the coefficient."""
    run = train(tmp_path, GRPO, "algorithm.use_kl_in_reward=True", "trainer.total_training_steps=1")
    holder, name = knobs_of(run.trainer)["kl_coef"]
    assert holder is run.trainer.kl_ctrl_in_reward
    assert getattr(holder, name) == pytest.approx(0.001)
