"""OpenRLHF's own code, watched: the real PPOTrainer, experience maker, model actors and command line, on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import collapse
import pytest
import support_openrlhf as support
import torch

from rlwatch.adapters.openrlhf import installing, watched, workers
from rlwatch.adapters.openrlhf.fixes import hints_for
from rlwatch.adapters.openrlhf.launching import launch, split
from rlwatch.adapters.openrlhf.terms import terms_from
from rlwatch.alert import EXIT_HALTED

pytest.importorskip("openrlhf", reason="needs OpenRLHF: .ci/openrlhf makes its environment")
ray = pytest.importorskip("ray", reason="needs Ray: .ci/openrlhf makes its environment")
support.install()

pytestmark = [pytest.mark.usefixtures("elsewhere"), pytest.mark.timeout(900)]

SAVE = ["--ckpt.save_steps", "2", "--ckpt.max_num", "30"]
STOP = "reward_mean > -1 and row > 5"
"""A rule that is broken at the seventh step of any run."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[support.Bench]:
    """Ray, the model actors and the engine, once."""
    support.start_ray()
    yield support.Bench(tmp_path_factory.mktemp("openrlhf"))
    ray.shutdown()


def steps(count: int) -> list[str]:
    """Two prompts a step."""
    return ["--data.max_samples", str(2 * count)]


def at(step: int, do: Callable[[Any], None]) -> type:
    """OpenRLHF's trainer with something done to it before this step, as a fault would be."""

    class Faulty(support.plain_trainer()):  # type: ignore[misc]
        def train_step(self, rollout_samples: Any, global_step: int) -> Any:
            if global_step + 1 == step:
                do(self)
            return super().train_step(rollout_samples, global_step)

    return Faulty


def far_too_high(trainer: Any) -> None:
    """The policy's learning rate x300."""
    workers.call(trainer.actor_model_group, workers.turn, "lr", 300.0)


def not_a_number(trainer: Any) -> None:
    """The next batch's advantages are NaN, as a reward model's overflow makes them: the policy's loss is NaN."""
    maker = trainer.experience_maker
    real = maker.compute_advantages_and_returns

    def broken(experiences: Any) -> Any:
        del maker.compute_advantages_and_returns
        for experience in experiences:
            experience.rewards = experience.rewards * float("nan")
        return real(experiences)

    maker.compute_advantages_and_returns = broken


def collapsing() -> type:
    """OpenRLHF's trainer, whose samples come with the rewards of `collapse`."""

    class Collapsing(support.plain_trainer()):  # type: ignore[misc]
        def train_step(self, rollout_samples: Any, global_step: int) -> Any:
            for sample, reward in zip(rollout_samples, collapse.rewards(global_step + 1), strict=True):
                sample.rewards = torch.tensor([reward])
                sample.info["reward"] = sample.rewards
            return super().train_step(rollout_samples, global_step)

    return Collapsing


def weights(group: Any) -> dict[str, torch.Tensor]:
    """The policy's weights, out of its actor."""

    def read(actor: Any) -> Any:
        return {name: value.detach().float().clone() for name, value in actor.actor.model.module.named_parameters()}

    return dict(workers.call(group, read)[0])


def told(watch: Any) -> list[tuple[str, str]]:
    """Detector and severity of each alert."""
    return [(alert.detector, alert.severity.value) for alert in watch.alerts]


def rows(watch: Any) -> list[dict[str, Any]]:
    """What the run folder holds."""
    (path,) = Path("rlwatch_runs").glob("*/steps.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


# Watching


@pytest.mark.parametrize("algorithm", [(), support.GAE], ids=["grpo", "gae"])
def test_a_healthy_run_is_seen_whole_and_left_alone(bench: support.Bench, algorithm: list[str]) -> None:
    """Every step is a row with scalars and samples, and none of them alarms; nothing of ours fails."""
    trainer = bench.trainer(*steps(30), *algorithm, on_critical="halt")
    trainer.fit()
    watch = trainer.rlwatch.watch
    assert (watch.rows, watch.step, told(watch), watch.failures) == (30, 30, [], {})
    seen = rows(watch)
    assert [row["step"] for row in seen] == list(range(1, 31))
    wanted = {"policy_loss", "grad_norm", "entropy", "approx_kl", "clip_fraction", "reward_mean", "reward_std"}
    wanted |= {"advantage_std", "response_length_mean", "truncation_rate", "step_time", "rollout_logprob_diff", "ess"}
    if algorithm:
        wanted |= {"kl", "kl_coef", "value_loss", "explained_variance", "critic_grad_norm"}
    else:
        assert "kl" not in seen[0]  # OpenRLHF logs 0 for it, which is no measurement
    norms = {"update_norm", "weight_norm", *(("policy_step_norm", "value_step_norm") if algorithm else ())}
    assert [row["step"] for row in seen if norms <= set(row)] == [1, 11, 21]
    for row in seen:
        assert wanted <= set(row)
        assert not [key for key in row if key.startswith("rlwatch/")]
        samples = {"rewards", "advantages", "response_lengths", "group_ids", "completions", "prompts"}
        assert {name for name in samples if row["samples"][name]["n"] == 8} == samples
        assert row["samples"]["rewards"]["mean"] == pytest.approx(row["reward_mean"], abs=1e-6)
    assert watch.settings.preset == ("ppo" if algorithm else "grpo")


def test_the_collapse_that_every_adapter_is_given_is_told_at_the_same_step(bench: support.Bench) -> None:
    """The rewards of `collapse`, at the step at which `Watch.log` alone tells it."""
    trainer = bench.trainer(*steps(collapse.STEPS), "--actor.adam.lr", "1e-5", kind=collapsing())
    trainer.fit()
    assert abs(collapse.alerted(trainer.rlwatch.watch) - collapse.FIRST) <= 1


def test_a_watched_run_is_the_same_run(bench: support.Bench) -> None:
    """With the same samples, the weights after a step are bit for bit those of the trainer without rlwatch."""
    trainer = bench.trainer(*steps(1))
    samples = trainer.samples_generator.generate_samples(**trainer.generate_kwargs)[0]
    before = weights(bench.policy)
    trained = []
    for step in (trainer.train_step, lambda *given: support.plain_trainer().train_step(trainer, *given)):
        bench.reset()
        torch.manual_seed(0)
        workers.call(bench.policy, lambda actor: torch.manual_seed(0))
        step(samples, 0)
        trained.append(weights(bench.policy))
    mine, theirs = trained
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert any(not torch.equal(value, before[name]) for name, value in mine.items())


def test_the_norm_of_an_update_is_that_of_the_weights(bench: support.Bench) -> None:
    """As far as they moved in the model actor; OpenRLHF's own metrics do not show it."""
    trainer = bench.trainer(*steps(1))
    shown: list[dict[str, Any]] = []
    trainer.tensorboard_logger = types.SimpleNamespace(log_train=lambda _, row: shown.append(dict(row)), close=list)
    before = weights(bench.policy)
    trainer.fit()
    after = weights(bench.policy)
    (row,) = rows(trainer.rlwatch.watch)
    moved = sum(float((after[name] - before[name]).norm()) ** 2 for name in before) ** 0.5
    assert moved > 0.0
    assert row["update_norm"] == pytest.approx(moved, rel=0.02)
    assert row["weight_norm"] == pytest.approx(sum(float(x.norm()) ** 2 for x in after.values()) ** 0.5, rel=0.02)
    assert shown
    assert not [key for key in shown[0] if "norm" in key and "grad" not in key]


# Halting


@pytest.mark.parametrize("algorithm", [(), support.GAE], ids=["grpo", "gae"])
def test_a_learning_rate_far_too_high_halts_the_run(bench: support.Bench, algorithm: list[str]) -> None:
    """A critical soon after, and the run ends by its own way with a checkpoint, tagged for what it is."""
    trainer = bench.trainer(*steps(60), *SAVE, *algorithm, on_critical="halt", kind=at(13, far_too_high))
    trainer.fit()
    watch = trainer.rlwatch.watch
    critical = next(alert for alert in watch.alerts if alert.critical)
    assert 13 <= critical.step <= 35
    assert watch.step == critical.step
    for name in ("_actor", "_critic") if algorithm else ("_actor",):
        assert (bench.folder / name / f"global_step{critical.step}" / "mp_rank_00_model_states.pt").is_file()
    last = bench.folder / "_actor" / f"global_step{critical.step}"
    assert json.loads((last / "rlwatch.json").read_text())["step"] == critical.step
    tags = json.loads((bench.folder / "_actor" / "rlwatch_health.json").read_text())["checkpoints"]
    assert tags[last.name]["health"] == "poisoned"
    assert [event["event"] for event in watch.events] == ["halt"]


def test_a_loss_that_is_not_a_number_stays_out_of_the_weights(bench: support.Bench) -> None:
    """That update is withheld in the workers; the run goes on as if the batch had not been."""
    trainer = bench.trainer(*steps(10), *support.GAE, kind=at(6, not_a_number))
    trainer.fit()
    watch = trainer.rlwatch.watch
    assert told(watch) == [("loss_nonfinite", "critical")]
    assert all(torch.isfinite(value).all() for value in weights(bench.policy).values())
    assert [row["step"] for row in rows(watch) if row.get("policy_loss") == "NaN"] == [6]
    assert (watch.step, watch.failures) == (10, {})


def test_a_loss_that_is_not_a_number_halts_at_that_step(bench: support.Bench) -> None:
    """Where it is not withheld, its weights are broken: no healthy checkpoint makes room for them."""
    flags = [*steps(30), "--ckpt.save_steps", "1", "--ckpt.max_num", "3"]
    trainer = bench.trainer(*flags, on_critical="halt", on_nonfinite="continue", kind=at(6, not_a_number))
    trainer.fit()
    watch = trainer.rlwatch.watch
    assert told(watch) == [("loss_nonfinite", "critical")]
    assert watch.step == 6
    there = {path.name for path in (bench.folder / "_actor").iterdir() if path.is_dir()}
    assert there == {"global_step3", "global_step4", "global_step5", "global_step6"}
    assert (bench.folder / "_actor" / "latest").read_text() == "global_step3"  # it is traced back to the row after


# Going back


def test_a_run_goes_back_lowers_its_learning_rate_and_ends_well(bench: support.Bench) -> None:
    """The state of a checkpoint from before the fault is in every actor again, and the failure does not return."""
    trainer = bench.trainer(*steps(70), *SAVE, *support.GAE, on_critical="rollback", kind=at(41, far_too_high))
    trainer.fit()
    watch = trainer.rlwatch.watch
    (event,) = watch.events
    assert (event["event"], watch.step) == ("rollback", 70)
    assert 41 <= event["step"] <= 60
    assert event["to_step"] <= 40
    assert event["remedies"]
    last = rows(watch)[-1]
    assert last["learning_rate"] <= 1e-3
    assert last["entropy"] > 2.0
    assert watch.failures == {}


def test_a_loss_that_is_not_a_number_is_undone(bench: support.Bench) -> None:
    """Weights that were NaN are those of the checkpoint, the engine has them too, and gradients are clipped harder."""
    settings = {"on_critical": "rollback", "on_nonfinite": "continue"}
    trainer = bench.trainer(*steps(20), *SAVE, kind=at(8, not_a_number), **settings)
    trainer.fit()
    watch = trainer.rlwatch.watch
    (event,) = watch.events
    assert (event["event"], event["step"]) == ("rollback", 8)
    assert event["to_step"] in (4, 6)
    assert all(torch.isfinite(value).all() for value in weights(bench.policy).values())
    assert workers.call(bench.policy, lambda actor: actor.actor.model.gradient_clipping()) == [0.5]
    assert [row["step"] for row in rows(watch) if row.get("policy_loss") == "NaN"] == [8]
    assert watch.step == 20


def worse(trainer: Any) -> None:
    """A schedule that jumps, a clip range that somebody widens, and a NaN."""

    def change(actor: Any) -> None:
        schedule = actor.actor.model.lr_scheduler
        schedule.lr_lambdas = [lambda _: 30.0 for _ in schedule.lr_lambdas]
        for group in actor.actor.model.optimizer.param_groups:  # DeepSpeed asks the schedule after updates alone
            group["lr"] *= 30.0
        actor.trainer.actor_loss_fn.clip_eps_low = 2.0

    workers.call(trainer.actor_model_group, change)
    not_a_number(trainer)


def test_a_remedy_is_told_what_had_changed(bench: support.Bench) -> None:
    """The schedule's jump, the setting that is as it was again: as in every adapter."""
    told_of: list[Any] = []
    trainer = bench.trainer(
        *steps(12), *SAVE, kind=at(9, worse), on_critical="rollback", on_nonfinite="continue", remedies=told_of.append
    )
    constant = workers.call(bench.policy, lambda actor: actor.actor.model.lr_scheduler.lr_lambdas)[0]
    try:
        trainer.fit()
        (context, *_) = told_of
        assert (context.detector, context.step) == ("loss_nonfinite", 9)
        assert context.risen == pytest.approx(30.0)
        assert context.undone == {"clip_range": "PPO's clip range 2 -> 0.2, as it was"}
        event = trainer.rlwatch.watch.events[0]
        assert event["remedies"] == ["PPO's clip range 2 -> 0.2, as it was"]
        assert workers.call(bench.policy, workers.read)[0].knobs["clip_range"] == pytest.approx(0.2)
        assert trainer.rlwatch.watch.failures == {}
    finally:
        workers.call(bench.policy, lambda actor: setattr(actor.actor.model.lr_scheduler, "lr_lambdas", constant))


def test_without_a_checkpoint_it_halts_and_says_so(bench: support.Bench, caplog: pytest.LogCaptureFixture) -> None:
    """At the start what is missing is named, with the flag."""
    trainer = bench.trainer(*steps(20), on_critical="rollback", rules=[STOP])
    assert "--ckpt.save_steps" in caplog.text
    trainer.fit()
    assert trainer.rlwatch.watch.step == 7
    assert [event["event"] for event in trainer.rlwatch.watch.events] == ["halt"]


# Resuming


def test_a_resumed_run_goes_on_with_what_its_detectors_knew(bench: support.Bench) -> None:
    """Beside the checkpoint lies the Watch's state: no second warm-up."""
    flags = [*SAVE, "--ckpt.load_enable"]
    first = bench.trainer(*steps(12), *SAVE)
    first.fit()
    second = bench.trainer(*steps(16), *flags, keep=True)
    workers.call(
        bench.policy,
        lambda actor: setattr(
            actor,
            "checkpoint_states",
            {"episode": 0, "global_step": 12, "total_consumed_prompts": 24, "data_loader_state_dict": {}},
        ),
    )
    states = second.init_checkpoint_states()
    assert states["global_step"] == 12
    before, after = first.rlwatch.watch.state_dict(), second.rlwatch.watch.state_dict()
    assert after == before


# The command line


@pytest.fixture
def as_it_was() -> Iterator[None]:
    """OpenRLHF's modules and the environment are put back."""
    import openrlhf.trainer.ppo_trainer as sync
    import openrlhf.trainer.ppo_trainer_async as asynchronous

    homes = [(sync, "PPOTrainer"), (asynchronous, "TrainingActor"), (asynchronous, "GenerateSamplesActor")]
    before, environment = [getattr(home, name) for home, name in homes], dict(os.environ)
    yield
    for (home, name), kind in zip(homes, before, strict=True):
        setattr(home, name, kind)
    os.environ.clear()
    os.environ.update(environment)


@pytest.mark.parametrize("mode", [(), ("--train.async_enable", "--train.num_episodes", "2")], ids=["sync", "async"])
@pytest.mark.usefixtures("as_it_was")
def test_the_command_line_is_openrlhfs_own(bench: support.Bench, tmp_path: Path, mode: tuple[str, ...]) -> None:
    """Through the launcher: judged in the Ray actor, beside TensorBoard, halted, saved, and the exit code is 70."""
    world = {**bench.world, "ckpt": str(tmp_path / "ckpt")}
    words = support.flags(world, *steps(40), *SAVE, *mode, "--logger.tensorboard_dir", str(tmp_path / "board"))
    ours = ["--rlwatch.on_critical", "halt", f"--rlwatch.rules={STOP}", "--rlwatch.catalogue", "full"]
    assert launch(["train_ppo_ray", *words, *ours]) == EXIT_HALTED
    (run,) = (tmp_path / "rlwatch_runs").iterdir()
    seen = [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in seen] == [1, 2, 3, 4, 5, 6, 7]
    assert all(row["samples"]["completions"]["n"] == 8 for row in seen)
    assert (tmp_path / "ckpt" / "_actor" / "global_step7").is_dir()
    assert (tmp_path / "ckpt" / "out" / "model.safetensors").is_file()
    assert list((tmp_path / "board").rglob("events*"))
    if mode:
        assert [row.get("staleness") for row in seen][2:] == [1.0] * 5


NAN_ONCE = """
from pathlib import Path

def reward_func(queries, prompts, labels):
    calls = Path(__file__).with_suffix(".calls")
    with calls.open("a") as file:
        file.write(".")
    reward = float("nan") if 40 < calls.stat().st_size <= 48 else len(set(queries[0])) / 20
    return {"rewards": reward, "scores": reward, "extra_logs": {}}
"""
"""NaN in the batch of the sixth step."""


@pytest.mark.usefixtures("as_it_was")
def test_an_async_run_goes_back(bench: support.Bench, tmp_path: Path) -> None:
    """In the actor that trains, while the one that samples goes on; batches of the broken weights are dropped."""
    (tmp_path / "reward.py").write_text(NAN_ONCE)
    world = {**bench.world, "ckpt": str(tmp_path / "ckpt"), "reward": str(tmp_path / "reward.py")}
    words = support.flags(world, *steps(20), *SAVE, "--train.async_enable")
    ours = ["--rlwatch.on_critical", "rollback", "--rlwatch.on_nonfinite", "continue"]
    assert launch(["train_ppo_ray", *words, *ours]) == 0
    seen = rows(None)
    assert [row["step"] for row in seen if row.get("policy_loss") == "NaN"] == [6]
    assert 15 <= seen[-1]["step"] < 20  # what was dropped is not trained on
    (events,) = Path("rlwatch_runs").glob("*/events.jsonl")
    (event,) = [json.loads(line) for line in events.read_text().splitlines()]
    assert (event["event"], event["step"], event["to_step"]) == ("rollback", 6, 2)


@pytest.mark.usefixtures("as_it_was")
def test_the_coverage_table_of_the_docs_is_what_runs_give(bench: support.Bench, tmp_path: Path) -> None:
    """On OpenRLHF's defaults through the command line; and with the flags that the docs name."""
    world = {**bench.world, "ckpt": str(tmp_path / "ckpt")}
    defaults = [*support.GAE, "--rollout.n_samples_per_prompt", "1", "--rollout.batch_size", "8"]
    words = support.flags(world, *defaults, "--data.max_samples", "400")
    assert launch(["train_ppo_ray", *words, "--rlwatch.runs_dir", str(tmp_path / "defaults")]) == 0
    trainer = bench.trainer(*steps(55), *support.GAE, runs_dir=tmp_path / "asked")
    trainer.fit()
    (run,), (other,) = (tmp_path / "defaults").iterdir(), (tmp_path / "asked").iterdir()
    table = support.coverage_table(support.coverage_of(run), support.coverage_of(other))
    docs = Path(__file__).parents[2] / "docs" / "openrlhf.md"
    assert table in docs.read_text(), f"docs/openrlhf.md should hold:\n{table}"


def test_the_example_is_a_command_that_openrlhf_takes(bench: support.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its flags are known to OpenRLHF's own parser and pass its checks; ours are settings."""
    script = Path(__file__).parents[2] / "examples" / "openrlhf_grpo.sh"
    words = ["bash", str(script), "a/model", "prompts.jsonl", "reward.py"]
    done = subprocess.run(words, env={**os.environ, "PYTHON": "echo"}, capture_output=True, text=True, check=True)
    said = done.stdout.split()
    assert said[:3] == ["-m", "rlwatch.adapters.openrlhf", "train_ppo_ray"]
    ours, rest = split(said[3:])
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    assert terms_from({}).settings["on_critical"] == "rollback"
    args = support.parsed(rest)
    assert args.algo.advantage.estimator == "group_norm"
    assert not set(hints_for(args)) & {"entropy", "kl", "rollout_prob_diff"}


# Seams


def test_a_missing_seam_names_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    """Another version's trainer is watched as far as it goes, and never fails for it."""

    class Older:
        def save_logs_and_checkpoints(self, global_step: int, logs_dict: Any = None, client_states: Any = None) -> None:
            self.saved = global_step

    made = watched(Older)
    assert "init_checkpoint_states" in caplog.text
    assert "the detectors' state after a resume" in caplog.text
    older = made()  # it has none of what a session needs
    older.save_logs_and_checkpoints(3)
    assert older.saved == 3
    assert older.rlwatch is None


@pytest.mark.usefixtures("as_it_was")
def test_install_is_done_once() -> None:
    """A second call leaves the watched classes as they are."""
    import openrlhf.trainer.ppo_trainer as sync

    installing.install()
    first = sync.PPOTrainer
    installing.install()
    assert sync.PPOTrainer is first
    assert watched(sync.PPOTrainer, gpus=8).__ray_metadata__.modified_class.rlwatch_terms.settings["gpus"] == 8
    assert first.__ray_metadata__.modified_class.__name__ == "PPOTrainer"
