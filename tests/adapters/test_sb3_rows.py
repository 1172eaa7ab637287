"""What the Stable-Baselines3 callback sees, and that nobody notices it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("stable_baselines3", reason="needs stable-baselines3: pip install 'rlwatch[sb3]'")

from stable_baselines3.common.callbacks import BaseCallback, EveryNTimesteps
from stable_baselines3.common.logger import KVWriter, Logger
from support_sb3 import MODELS, SILENT, SeenWatch, arrays, everything, make, same

from rlwatch.adapters.sb3 import RLWatchCallback
from rlwatch.adapters.sb3.gradients import _norm

pytestmark = pytest.mark.usefixtures("elsewhere")

STEPS = {"ppo": 1024, "ppo-gauss": 1024, "a2c": 2400, "dqn": 700, "sac": 320, "td3": 320}


class Dumps(KVWriter):
    """What SB3 itself logs, dump by dump."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: Any, step: int = 0) -> None:
        """Keep a dump."""
        self.rows.append(dict(key_values))

    def close(self) -> None:
        """Nothing to close."""


class Norms(BaseCallback):
    """The gradient norms as they should be: taken from the gradients when torch is asked to clip them."""

    def _on_training_start(self) -> None:
        self.norms: list[float] = []
        self.original = torch.nn.utils.clip_grad_norm_

        def clip(parameters: Any, *args: Any, **kwargs: Any) -> Any:
            kept = list(parameters)
            self.norms.append(float(sum(float(p.grad.square().sum()) for p in kept if p.grad is not None)) ** 0.5)
            return self.original(kept, *args, **kwargs)

        torch.nn.utils.clip_grad_norm_ = clip

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        torch.nn.utils.clip_grad_norm_ = self.original


def watched(name: str, steps: int | None = None, **changes: Any) -> tuple[Any, SeenWatch]:
    """A model that has learnt beside rlwatch."""
    watch = SeenWatch()
    model = make(name, **changes)
    model.learn(steps or STEPS[name], callback=RLWatchCallback(watch=watch))
    return model, watch


@pytest.mark.parametrize("name", MODELS)
def test_training_is_the_same_bit_for_bit(name: str) -> None:
    """With and without the callback: weights, targets, optimizers, and every random number that comes next."""
    found = []
    for callback in (None, RLWatchCallback(**SILENT, on_critical="rollback")):
        model = make(name)
        model.learn(STEPS[name], callback=callback)
        found.append((everything(model), random.random(), np.random.rand(), torch.rand(1).item()))
    (alone, *numbers), (beside, *others) = found
    assert same(alone, beside)
    assert numbers == others
    assert callback is not None
    assert callback.watch is not None
    assert callback.watch.rows > 0


def test_values_belong_to_the_update_that_made_them() -> None:
    """SB3 dumps an update's values in the next iteration; the row has them at once, the entropy with its own sign."""
    dumps, watch, model = Dumps(), SeenWatch(), make("ppo")
    model.set_logger(Logger(None, [dumps]))
    model.learn(1024, callback=RLWatchCallback(watch=watch), log_interval=1)
    assert [row.step for row in watch.rows_seen] == [256, 512, 768, 1024]
    assert len(dumps.rows) == 4
    for row, dumped in zip(watch.rows_seen, dumps.rows[1:], strict=False):
        for ours, theirs in (("approx_kl", "approx_kl"), ("value_loss", "value_loss"), ("loss", "loss")):
            assert row.signals[ours] == pytest.approx(float(dumped[f"train/{theirs}"]), rel=1e-6)
        assert row.signals["entropy"] == pytest.approx(-float(dumped["train/entropy_loss"]), rel=1e-6)
        assert 0.0 < row.signals["entropy"] <= np.log(2) + 1e-6
    assert "train/approx_kl" not in dumps.rows[0]


def test_gradient_norms_are_those_before_clipping() -> None:
    """The mean over the updates of a row, far above a limit of 0.001."""
    before = torch.nn.utils.clip_grad_norm_
    watch, norms, model = SeenWatch(), Norms(), make("ppo", max_grad_norm=0.001)
    model.learn(512, callback=[norms, RLWatchCallback(watch=watch)])
    of_a_row = len(norms.norms) // 2
    for index, row in enumerate(watch.rows_seen):
        expected = float(np.mean(norms.norms[index * of_a_row : (index + 1) * of_a_row]))
        assert row.signals["grad_norm"] == pytest.approx(expected, rel=1e-4)
        assert expected > 0.01
    assert torch.nn.utils.clip_grad_norm_ is before


def test_sac_gives_norms_and_entropy_that_it_does_not_log() -> None:
    """Both networks' gradient norms, and the entropy of the squashed policy, as the samples of each update have it."""
    watch, model = SeenWatch(), make("sac")
    norms: dict[str, list[float]] = {"actor": [], "critic": []}
    entropies: list[float] = []
    for name, kept in norms.items():
        part = getattr(model, name)

        def note(optimizer: Any, args: Any, kwargs: Any, part: Any = part, kept: list[float] = kept) -> None:
            kept.append(float(sum(float(p.grad.square().sum()) for p in part.parameters())) ** 0.5)

        part.optimizer.register_step_pre_hook(note)
    sampled = model.actor.action_log_prob

    def sample(seen: Any) -> Any:
        actions, logprobs = sampled(seen)
        if logprobs.requires_grad:
            entropies.append(-float(logprobs.mean()))
        return actions, logprobs

    model.actor.action_log_prob = sample
    model.learn(300, callback=RLWatchCallback(watch=watch))
    first, second = watch.rows_seen
    for row, part in ((first, slice(0, 100)), (second, slice(100, 200))):
        assert row.signals["grad_norm"] == pytest.approx(np.mean(norms["actor"][part]), rel=1e-4)
        assert row.signals["critic_grad_norm"] == pytest.approx(np.mean(norms["critic"][part]), rel=1e-4)
        assert row.signals["entropy"] == pytest.approx(np.mean(entropies[part]), abs=1e-4)
        assert {"policy_loss", "value_loss", "entropy_coef", "action_std", "learning_rate"} <= row.signals.keys()


def test_the_norm_takes_gradients_of_every_layout() -> None:
    """Sparse ones, which torch's fused kernel refuses, dense ones, and none at all."""
    words, head = torch.nn.Embedding(5, 2, sparse=True), torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD([*words.parameters(), *head.parameters()], lr=0.1)
    assert _norm(optimizer) is None
    for seen in (torch.ones(3, 2), words(torch.tensor([1, 3]))):
        head(seen).square().sum().backward()
        grads = [each.grad.to_dense() for each in (*words.parameters(), *head.parameters()) if each.grad is not None]
        expected = sum(float(grad.square().sum()) for grad in grads) ** 0.5
        assert float(_norm(optimizer)) == pytest.approx(expected, rel=1e-5)


def test_rollouts_come_as_samples() -> None:
    """Advantages, values and returns of the rollout that the update used, and the episodes that ended in it."""
    model, watch = watched("ppo", 256)
    (row,) = watch.rows_seen
    buffer = model.rollout_buffer
    for name in ("advantages", "values", "returns"):
        assert row.samples[name].shape == (256,)
        np.testing.assert_allclose(np.sort(row.samples[name]), np.sort(arrays(getattr(buffer, name))))
    assert row.samples["rewards"].tolist() == [info["r"] for info in model.ep_info_buffer]
    assert row.signals["episode_length_mean"] == pytest.approx(np.mean([info["l"] for info in model.ep_info_buffer]))
    variance = 1 - np.var(row.samples["returns"] - row.samples["values"]) / np.var(row.samples["returns"])
    assert row.signals["explained_variance"] == pytest.approx(variance, abs=1e-4)


def test_each_episode_comes_once() -> None:
    """Over all rows the samples are the episodes, none twice and none left out; few of them give a mean only."""
    model, watch = watched("ppo", 1024, stats_window_size=1000)
    returns = [info["r"] for info in model.ep_info_buffer]
    for row in watch.rows_seen:
        found = row.samples.get("rewards")
        count = next(n for n in range(1, 100) if np.mean(returns[:n]) == pytest.approx(row.signals["reward_mean"]))
        assert (found is None) == (count < 5)
        assert found is None or found.tolist() == returns[:count]
        del returns[:count]
    assert returns == []


@pytest.mark.parametrize(("name", "rows"), [("a2c", 1), ("dqn", 3), ("sac", 2), ("td3", 2)])
def test_a_row_is_100_updates_where_updates_come_singly(name: str, rows: int) -> None:
    """And `every` sets another number."""
    assert watched(name)[1].rows == rows
    watch = SeenWatch()
    make(name).learn(STEPS[name], callback=RLWatchCallback(watch=watch, every=50))
    assert watch.rows in (2 * rows, 2 * rows + 1)


def test_step_norms_are_those_of_the_weights() -> None:
    """Policy, critic and both together."""
    model = make("ppo")
    before = {name: value.detach().clone() for name, value in model.policy.named_parameters()}
    watch = SeenWatch()
    model.learn(256, callback=RLWatchCallback(watch=watch))
    moved = {name: float((value.detach() - before[name]).norm()) for name, value in model.policy.named_parameters()}
    critic = sum(norm**2 for name, norm in moved.items() if "value_net" in name) ** 0.5
    signals = watch.rows_seen[0].signals
    assert signals["value_step_norm"] == pytest.approx(critic, rel=1e-4)
    assert signals["update_norm"] == pytest.approx(sum(norm**2 for norm in moved.values()) ** 0.5, rel=1e-4)
    assert signals["policy_step_norm"] ** 2 + critic**2 == pytest.approx(signals["update_norm"] ** 2, rel=1e-4)


def test_a_second_learn_goes_on_and_leaves_nothing_behind() -> None:
    """One callback for two calls: the hooks are taken off between them, and the counts go on where SB3's do."""
    callback = RLWatchCallback(**SILENT)
    model = make("ppo")
    model.learn(512, callback=callback)
    first = callback.watch
    assert first is not None
    assert first.rows == 2
    assert len(model.policy.optimizer._optimizer_step_pre_hooks) == 0
    model.learn(512, callback=callback, reset_num_timesteps=False)
    assert callback.watch is not first
    assert callback.watch is not None
    assert (callback.watch.rows, callback.watch.step) == (4, 1024)
    model.learn(256, callback=callback)
    assert (callback.watch.rows, callback.watch.step) == (1, 256)


def test_it_says_what_it_cannot_see(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seam that is gone, a version that was not tested, a place where no events come: a sentence, and no failure."""
    settings = {**SILENT, "strict": False}
    monkeypatch.setattr("stable_baselines3.__version__", "2.99.0")
    monkeypatch.delattr(torch.nn.utils, "clip_grad_norm_")
    callback = RLWatchCallback(**settings)
    model = make("ppo")
    monkeypatch.setattr(model, "train", lambda: None)
    model.learn(256, callback=callback)
    assert "tested with stable-baselines3 2.9, this is 2.99.0" in caplog.text
    assert "gradient norms are those after clipping" in caplog.text
    monkeypatch.undo()
    make("ppo").learn(256, callback=EveryNTimesteps(100, RLWatchCallback(**settings)))
    assert "it hears of no rollouts and judges nothing" in caplog.text


def test_a_failure_of_ours_costs_no_training(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What raises inside is named, switched off, and the weights are those of a run without it."""
    alone = make("ppo")
    alone.learn(1024)

    def broken(self: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr("rlwatch.adapters.sb3.session.Session._judge", broken)
    model = make("ppo")
    model.learn(1024, callback=RLWatchCallback(**{**SILENT, "strict": False}))
    assert same(everything(alone), everything(model))
    assert "the judgement of a row failed, the run goes on" in caplog.text
