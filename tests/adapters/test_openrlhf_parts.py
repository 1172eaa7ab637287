"""The parts of the OpenRLHF adapter that can be tested without OpenRLHF: flags, settings, samples, queues."""

from __future__ import annotations

import os
import queue
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlwatch import ConfigError, Watch
from rlwatch.adapters.openrlhf.checkpoints import Checkpoints
from rlwatch.adapters.openrlhf.ending import end_data
from rlwatch.adapters.openrlhf.fixes import hints_for, preset_of
from rlwatch.adapters.openrlhf.inbox import DONE, HALT, Inbox, Outbox, Slots
from rlwatch.adapters.openrlhf.installing import watched
from rlwatch.adapters.openrlhf.launching import launch, split
from rlwatch.adapters.openrlhf.norms import POLICY, measure, signals, taken
from rlwatch.adapters.openrlhf.samples import Samples, arrays, measures
from rlwatch.adapters.openrlhf.terms import terms_from
from rlwatch.adapters.openrlhf.turning import RewardClip
from rlwatch.adapters.openrlhf.withholding import withhold
from rlwatch.detectors.registry import detector_classes
from rlwatch.guest import Guest

pytestmark = pytest.mark.usefixtures("elsewhere")


# The command line


def test_flags_are_told_apart() -> None:
    """rlwatch's flags become environment variables in either spelling; all others stay in their order."""
    words = "train_ppo_ray --actor.adam.lr 1e-6 --rlwatch.on_critical halt --eval.steps -1 --rlwatch.gpus=8"
    ours, rest = split(
        [*words.split(), "--rlwatch.kl_explosion.warning-sigma", "4", "--rlwatch.strict", "--ds.zpg", "1"]
    )
    assert ours == {
        "RLWATCH_ON_CRITICAL": "halt",
        "RLWATCH_GPUS": "8",
        "RLWATCH_KL_EXPLOSION__WARNING_SIGMA": "4",
        "RLWATCH_STRICT": "true",
    }
    assert rest == ["train_ppo_ray", "--actor.adam.lr", "1e-6", "--eval.steps", "-1", "--ds.zpg", "1"]


def test_a_negative_value_is_a_value() -> None:
    """`-1` after a flag of ours belongs to it."""
    assert split(["--rlwatch.stall_seconds", "-1"])[0] == {"RLWATCH_STALL_SECONDS": "-1"}


def test_only_the_ray_trainer_is_launched(capsys: pytest.CaptureFixture[str]) -> None:
    """Another command is refused with the reason, none at all shows how it is used."""
    assert launch(["train_sft", "--x"]) == 2
    assert "train_ppo_ray" in capsys.readouterr().err
    assert launch([]) == 2
    assert launch(["--help"]) == 0
    assert "--rlwatch.on_critical" in capsys.readouterr().out


# What the actor is told


def test_all_sources_of_settings_are_read_in_the_driver(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The actor on another machine gets what keywords, environment and file have set here, and an absolute folder."""
    (elsewhere / "rlwatch.yaml").write_text("gpus: 8\nentropy_collapse:\n  critical_ratio: 0.05\n")
    monkeypatch.setenv("RLWATCH_GPU_PRICE", "2.5")
    settings = terms_from({"on_critical": "halt"}).settings
    assert (settings["gpus"], settings["gpu_price"], settings["on_critical"]) == (8, 2.5, "halt")
    assert settings["entropy_collapse"] == {"critical_ratio": 0.05}
    assert settings["runs_dir"] == elsewhere / "rlwatch_runs"


def test_a_wrong_setting_is_an_error_before_anything_starts() -> None:
    """A misspelt one is named with the right one."""
    with pytest.raises(ConfigError, match="on_critical"):
        terms_from({"on_critica": "halt"})


def test_what_cannot_be_done_here_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """An update that is in the weights already cannot be skipped."""
    assert terms_from({"on_critical": "skip"}).settings["on_critical"] == "continue"
    assert "its update is in the weights" in caplog.text


def test_watched_wants_a_trainer() -> None:
    """Anything else is refused by name."""
    with pytest.raises(TypeError, match="PPOTrainer"):
        watched(int)


# Samples


def batch(**changes: Any) -> dict[str, Any]:
    """Two prompts with two samples each; the mask is that of the token after."""
    mask = torch.tensor([[0, 1, 1, 0], [0, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]])
    made: dict[str, Any] = {
        "sequences": torch.arange(20).reshape(4, 5),
        "action_mask": mask,
        "response_length": torch.tensor([2, 3, 1, 0]),
        "rewards": torch.tensor([1.0, 0.0, float("nan"), 0.5]),
        "advantages": torch.tensor([[9.0, 1, 3, 9], [9, 2, 2, 2], [9, -1, 9, 9], [9, 9, 9, 9]]),
        "values": None,
        "returns": torch.ones(4, 4),
        "action_log_probs": torch.zeros(4, 4),
        "rollout_log_probs": None,
        "index": [0, 1, 3, 2],
        "prompts": ["a", "b", "c", "d"],
    }
    return {**made, **changes}


def test_arrays_are_one_number_a_sample() -> None:
    """Advantages are means over a sample's own tokens, groups follow the original order; without critic no returns."""
    found = arrays([batch(), batch(index=[4, 5, 6, 7])], per_prompt=2)
    assert set(found) == {"rewards", "response_lengths", "advantages", "group_ids"}
    np.testing.assert_array_equal(found["advantages"], [2.0, 2.0, -1.0, 0.0] * 2)
    np.testing.assert_array_equal(found["group_ids"], [0, 0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(found["rewards"][:4], [1.0, 0.0, np.nan, 0.5])


def test_what_one_batch_lacks_is_left_out() -> None:
    """Half an array would be taken for all of it."""
    assert "rewards" not in arrays([batch(), batch(rewards=None)], per_prompt=2)
    assert "group_ids" not in arrays([batch(index=None)], per_prompt=2)
    assert "group_ids" not in arrays([batch()], per_prompt=1)


def test_measures_of_critic_and_engine() -> None:
    """Over the tokens of the answers alone: 1 for a perfect critic; differences, and weights, of log-probabilities."""
    returns = torch.arange(16.0).reshape(4, 4)
    exact = measures([batch(values=returns - 3, returns=returns, rollout_log_probs=torch.full((4, 4), -0.5))])
    assert exact["explained_variance"] == pytest.approx(1.0)
    assert exact["rollout_logprob_diff"] == pytest.approx(0.5)
    assert exact["rollout_prob_diff"] == pytest.approx(1 - np.exp(-0.5))
    assert exact["is_weight_mean"] == pytest.approx(np.exp(0.5))
    assert exact["ess"] == pytest.approx(1.0)
    assert measures([batch()]) == {}
    assert "explained_variance" not in measures([batch(values=returns, returns=torch.ones(4, 4))])


class Letters:
    """A tokenizer that writes a token as a letter."""

    def batch_decode(self, rows: list[list[int]], skip_special_tokens: bool) -> list[str]:
        return ["".join(chr(97 + token) for token in row) for row in rows]


def test_samples_are_read_beside_the_loop() -> None:
    """What `take` gives is the last batch, once, also where OpenRLHF has taken its `index` away meanwhile."""
    failures: list[str] = []
    samples = Samples(Letters(), 2, lambda part, error: failures.append(part))
    assert samples.take() == {}
    data = batch()
    rewards = data.pop("rewards")
    experience = types.SimpleNamespace(**data, info={"reward": rewards})
    samples.begin([experience])
    experience.index = None
    assert samples._thread is not None
    samples._thread.join()  # on a busy machine the texts take longer than a step would wait for them
    found = samples.take()
    assert found["completions"] == ["cd", "hij", "m", ""]
    assert found["prompts"] == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(found["group_ids"], [0, 0, 1, 1])
    assert failures == []


def test_a_batch_that_cannot_be_read_costs_its_samples() -> None:
    """The failure is told, and the step is judged without them."""
    failures: list[str] = []
    samples = Samples(Letters(), 2, lambda part, error: failures.append(part))
    samples.begin([types.SimpleNamespace(info={}, index=None, prompts=None, advantages="?", action_mask=None)])
    assert samples.take() == {}
    samples.wait()
    assert failures == ["the samples of a step", "the texts of a step"]


# Async: the queues


class Line(queue.Queue):  # type: ignore[type-arg]
    """A queue with the names of Ray's."""


def async_pair(capacity: int) -> tuple[Any, Outbox, Slots, Inbox]:
    """Both ends of OpenRLHF's two queues, with all slots free."""
    batches, slots = Line(), Line(capacity)
    for _ in range(capacity):
        slots.put(0)
    generator = types.SimpleNamespace(generate_samples=lambda **_: (["sample"], None, 1, False))
    theirs = Slots(slots, generator)
    return generator, Outbox(batches, theirs), theirs, Inbox(batches, slots)


def one(outbox: Outbox) -> None:
    """A batch, as OpenRLHF's generator sends it."""
    outbox.put((["sample"], {"episode": 0}, None, 0.1), block=True)


def test_a_batch_says_at_which_step_its_slot_was_free() -> None:
    """The trainer learns it, and its client states do not show it."""
    _, outbox, slots, inbox = async_pair(1)
    slots.get()
    one(outbox)
    assert inbox.get()[1] == {"episode": 0}
    assert inbox.sampled_at == 0
    inbox._slots.put(7)
    slots.get()
    one(outbox)
    inbox.get()
    assert inbox.sampled_at == 7


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_halt_ends_the_generators_data(taken: int) -> None:
    """Wherever the slots are, the generator's next one is the word; what it still sends is thrown away until done."""
    generator, outbox, slots, inbox = async_pair(2)
    for _ in range(taken):
        slots.get()
        one(outbox)
    inbox.halt()
    assert slots.get() == 0
    assert generator.generate_samples() == ([], None, 0, True)
    outbox.put(("eval", 4, {}))
    outbox.put(DONE)
    assert inbox.get() == DONE


def test_batches_of_weights_given_up_are_dropped() -> None:
    """Each of them frees its slot; an evaluation passes, and so does the next batch."""
    _, outbox, slots, inbox = async_pair(2)
    slots.get()
    one(outbox)
    inbox.drop(capacity=2)
    outbox.put(("eval", 4, {}))
    slots.get()
    outbox.put((["fresh"], {}, None, 0.1))
    assert inbox.get()[0] == "eval"
    assert inbox.get()[0] == ["fresh"]
    assert slots.inner.qsize() == 1


def test_the_data_ends_for_good() -> None:
    """As at the end of an episode, whatever is asked for."""
    generator = types.SimpleNamespace()
    end_data(generator)
    assert generator.generate_samples(temperature=1.0) == ([], None, 0, True)
    assert HALT != 0


# A non-finite loss


class Strategy:
    """Notes what is done to the engine."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def backward(self, loss: Any, model: Any, optimizer: Any) -> None:
        self.done.append("backward")

    def optimizer_step(self, optimizer: Any, model: Any, scheduler: Any, name: str) -> None:
        self.done.append("step")


def test_a_loss_that_is_not_finite_goes_no_further() -> None:
    """No backward pass for it and no step after it; the next micro-batch is as ever."""
    actor = types.SimpleNamespace(strategy=Strategy())
    assert withhold(actor)
    assert withhold(actor)  # a second run with the same actors wraps nothing twice
    for loss in (1.0, float("nan"), float("inf"), 2.0):
        actor.strategy.backward(torch.tensor(loss), None, None)
        actor.strategy.optimizer_step(None, None, None, name="actor")
    assert actor.strategy.done == ["backward", "step"] * 2


def test_a_dynamic_batch_steps_with_what_is_finite() -> None:
    """There several micro-batches come before one step."""
    actor = types.SimpleNamespace(strategy=Strategy())
    withhold(actor)
    for losses in ((1.0, float("nan")), (float("nan"), float("nan"))):
        for loss in losses:
            actor.strategy.backward(torch.tensor(loss), None, None)
        actor.strategy.optimizer_step(None, None, None, name="actor")
    assert actor.strategy.done == ["backward", "step"]


def test_a_strategy_without_the_seam_says_so() -> None:
    """And is left as it is."""
    assert not withhold(types.SimpleNamespace(strategy=types.SimpleNamespace()))


# The norms of updates


class Engine:
    """DeepSpeed's counting, around torch's SGD: `every`-th micro-batches update, unless they overflow."""

    def __init__(self, every: int = 2) -> None:
        self.module = torch.nn.Linear(3, 2)
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=0.5)
        self.every, self.micro_steps, self.global_steps, self.skipped_steps = every, 0, 0, 0
        self.overflow = False

    def is_gradient_accumulation_boundary(self) -> bool:
        return (self.micro_steps + 1) % self.every == 0

    def step(self) -> None:
        if self.is_gradient_accumulation_boundary():
            for each in self.module.parameters():
                each.grad = torch.ones_like(each)
            self.skipped_steps += self.overflow
            if not self.overflow:
                self.optimizer.step()
            self.global_steps += 1
        self.micro_steps += 1


def actor_with(engine: Engine, micro_batches: int, zero_stage: int = 0) -> Any:
    """A model actor, whose training runs so many micro-batches."""
    space = types.SimpleNamespace
    strategy = space(args=space(ds=space(zero_stage=zero_stage)), optimizer_step=lambda *_, **__: engine.step())
    actor = space(strategy=strategy, actor=space(model=engine))

    def ppo_train(kl_ctl: float) -> dict[str, float]:
        for _ in range(micro_batches):
            strategy.optimizer_step(None, None, None, name="actor")
        return {"policy_loss": 1.0}

    actor.trainer = space(ppo_train=ppo_train)
    return actor


def test_the_norm_of_every_tenth_update_goes_with_its_step() -> None:
    """Updates, not micro-batches; the rest of the metrics is as it was, and our keys are taken out."""
    actor = actor_with(Engine(), micro_batches=4)
    assert measure(actor, POLICY)
    assert measure(actor, POLICY)  # a second run with the same actors wraps nothing twice
    found = []
    for _ in range(11):
        status = actor.trainer.ppo_train(kl_ctl=0.0)
        found.append(taken(status))
        assert status == {"policy_loss": 1.0}
    assert [step for step, each in enumerate(found) if each] == [0, 5, 10]  # updates 1, 11, 21 of two a step
    assert found[0]["update_norm"] == pytest.approx(0.5 * 8**0.5)
    weights = torch.nn.utils.parameters_to_vector(actor.actor.model.module.parameters()).detach()
    assert found[10]["weight_norm"] == pytest.approx(float((weights + 0.5).norm()))  # before the last update


def test_an_update_that_overflowed_is_not_measured() -> None:
    """It moved nothing, and that is no frozen weight."""
    engine = Engine(every=1)
    engine.overflow = True
    actor = actor_with(engine, micro_batches=1)
    measure(actor, POLICY)
    assert taken(actor.trainer.ppo_train(0.0)) == {}


def test_a_measurement_that_fails_costs_itself() -> None:
    """The training goes on."""
    actor = actor_with(Engine(every=1), micro_batches=1)
    measure(actor, POLICY)
    del actor.actor.model.skipped_steps
    actor.actor.model.step = lambda: None
    assert actor.trainer.ppo_train(0.0) == {"policy_loss": 1.0}


def test_where_weights_are_in_parts_nothing_is_measured() -> None:
    """ZeRO 3, and an actor of another version."""
    assert not measure(actor_with(Engine(), 1, zero_stage=3), POLICY)
    assert not measure(types.SimpleNamespace(strategy=None, actor=types.SimpleNamespace(model=None)), POLICY)


def test_norms_as_signals() -> None:
    """Policy and critic together; apart only where there are both."""
    policy = {"policy/step_norm": 3.0, "policy/weight_norm": 30.0}
    critic = {"value/step_norm": 4.0, "value/weight_norm": 40.0}
    assert signals(policy) == {"update_norm": 3.0, "weight_norm": 30.0}
    both = {"update_norm": 5.0, "weight_norm": 50.0, "policy_step_norm": 3.0, "value_step_norm": 4.0}
    assert signals({**policy, **critic}) == pytest.approx(both)
    assert signals({}) == taken(None) == {}


# Checkpoints


def a_run(folder: Path) -> tuple[Watch, Checkpoints]:
    """A Watch and the checkpoints of a trainer that saves every second step."""
    space = types.SimpleNamespace
    trainer = space(
        args=space(ckpt=space(path=str(folder), save_steps=2, disable_ds=False)),
        kl_ctl=space(value=0.01),
    )
    watch = Watch(record=False, console=False, catalogue="core")
    return watch, Checkpoints(trainer, watch, Guest(strict=True))


def go_on(watch: Watch, checkpoints: Checkpoints, steps: range, *, broken: int = -1) -> None:
    """Steps, each saved as OpenRLHF would."""
    for step in steps:
        watch.log(step=step, policy_loss=float("nan") if step == broken else 0.1, kl=0.01)
        if step % 2 == 0:
            (checkpoints.folder / f"global_step{step}").mkdir(parents=True)
        checkpoints.saved(f"global_step{step}")


def test_checkpoints_to_go_back_to(elsewhere: Path) -> None:
    """Proven ones first, the newest first; none that the trouble is traced to, none that another run has left there."""
    watch, checkpoints = a_run(elsewhere)
    stranger = checkpoints.folder / "global_step8"
    stranger.mkdir(parents=True)
    os.utime(stranger, (1, 1))
    go_on(watch, checkpoints, range(1, 8))
    assert [each.tag for each in checkpoints.good()] == ["global_step6", "global_step4", "global_step2"]
    stranger.rmdir()
    go_on(watch, checkpoints, range(8, 61), broken=60)
    good = [each.step for each in checkpoints.good()]
    assert good[0] == 28  # `lag` rows before the last
    assert good[1:14] == list(range(26, 0, -2))
    assert good[14:] == list(range(56, 29, -2))
    checkpoints.close()


def test_a_resume_goes_on_from_what_lies_beside(elsewhere: Path) -> None:
    """The Watch's state and what rollbacks had changed; with another step, or nothing, it starts afresh and says so."""
    watch, checkpoints = a_run(elsewhere)
    checkpoints.changes = lambda: {"values": {"kl_coef": 0.02}}
    go_on(watch, checkpoints, range(1, 7))
    checkpoints.close()
    (checkpoints.folder / "latest").write_text("global_step6")
    again, others = a_run(elsewhere)
    assert others.resume({"global_step": 6}) == {"values": {"kl_coef": 0.02}}
    assert again.state_dict() == watch.state_dict()
    assert others.resume({"global_step": 0}) is None
    fresh, third = a_run(elsewhere)
    assert third.resume({"global_step": 4}) is None
    assert fresh.rows == 0


def test_rewards_are_clipped_within_the_users_range() -> None:
    """And a remedy can be taken back."""
    flags = types.SimpleNamespace(clip_range=(-1.0, 10.0))
    clip = RewardClip(flags)
    assert clip.bound == 10.0
    clip.bound = 2.0
    assert flags.clip_range == (-1.0, 2.0)
    clip.bound = 10.0
    assert flags.clip_range == (-1.0, 10.0)


# Fixes


def flags_of(**changes: Any) -> Any:
    """The flags that the fixes depend on, at OpenRLHF's defaults."""
    space = types.SimpleNamespace
    given = {"estimator": "gae", "init_coef": 0.01, "entropy_coef": None, "level": "off", "is_async": False}
    given = {**given, "zero_stage": 2, **changes}
    return space(
        algo=space(
            advantage=space(estimator=given["estimator"], is_correction_level=given["level"]),
            kl=space(init_coef=given["init_coef"], target=None),
        ),
        actor=space(entropy_coef=given["entropy_coef"]),
        train=space(async_enable=given["is_async"]),
        ds=space(zero_stage=given["zero_stage"]),
    )


def test_fixes_name_the_flag() -> None:
    """Each that a run can do something about; a signal that comes has none."""
    assert "--actor.entropy_coef 0" in hints_for(flags_of())["entropy"]
    assert "entropy" not in hints_for(flags_of(entropy_coef=0.0))
    assert "--algo.kl.init_coef" in hints_for(flags_of(init_coef=0.0))["kl"]
    assert "gae" in hints_for(flags_of(estimator="group_norm"))["value_mean"]
    assert "staleness" not in hints_for(flags_of(is_async=True))
    assert "policy_step_norm" not in hints_for(flags_of())
    assert "--ds.zero_stage 2" in hints_for(flags_of(zero_stage=3))["policy_step_norm"]
    assert preset_of(flags_of()) == "ppo"
    assert preset_of(flags_of(estimator="rloo")) == "grpo"


def test_every_fix_is_for_a_signal_that_a_detector_asks_for() -> None:
    """Else nobody would ever read it."""
    asked = {name for detector in detector_classes().values() for name in detector.needs}
    runs = (flags_of(), flags_of(zero_stage=3), flags_of(estimator="rloo", init_coef=0.0))
    assert {name for flags in runs for name in hints_for(flags)} <= asked
