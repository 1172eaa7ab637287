"""The callback's life in a trainer: methods wrapped and restored, runs that end, fail and begin again."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from support_trl import SILENT, dpo, grpo, online_dpo, seen_watch, weights
from transformers import TrainerCallback

from rlwatch.adapters.seams import Seam
from rlwatch.adapters.trl import RLWatchCallback
from rlwatch.guest import Guest

pytestmark = pytest.mark.usefixtures("elsewhere")


def wrapped(trainer: Any) -> list[str]:
    """The methods of the trainer and its accelerator that are seams now."""
    return [name for owner in (trainer, trainer.accelerator) for name, x in vars(owner).items() if isinstance(x, Seam)]


class Peek(TrainerCallback):
    """Notes what is wrapped at each step."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.wrapped: list[list[str]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.wrapped.append(wrapped(self.trainer))


def test_methods_are_wrapped_while_training_only(tmp_path: Path) -> None:
    """After train() the trainer's methods are its own again, one that a user had replaced included."""
    peek = Peek()
    trainer = peek.trainer = grpo(tmp_path, [RLWatchCallback(watch=seen_watch()), peek], steps=2)
    replaced = trainer.training_step = functools.partial(trainer.training_step)
    before = dict(vars(trainer))
    trainer.train()
    norm = "_get_grad_norm" if hasattr(trainer, "_get_grad_norm") else "clip_grad_norm_"  # transformers before 5.10
    assert set(peek.wrapped[0]) == {"_calculate_rewards", "_generate_and_score_completions", "training_step", norm}
    assert wrapped(trainer) == []
    assert trainer.training_step is replaced
    assert [name for name in vars(trainer) if name not in before and callable(vars(trainer)[name])] == []


def test_a_watched_run_is_the_same_run(tmp_path: Path) -> None:
    """The weights after training are bit for bit those of a run without rlwatch."""
    for make in (grpo, online_dpo):
        trained = []
        for callbacks in ([], [RLWatchCallback(**SILENT)]):
            trainer = make(tmp_path, callbacks, steps=5)
            trainer.train()
            trained.append(weights(trainer.model))
        plain, watched = trained
        assert all(torch.equal(value, plain[name]) for name, value in watched.items())


def test_a_seam_returns_what_the_method_returned(tmp_path: Path) -> None:
    """The very object, also when our part of it raises."""
    trainer = dpo(tmp_path, [], steps=1)
    result = object()
    trainer._get_grad_norm = lambda *_, **__: result
    guest = Guest()

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    for after in (lambda *_: None, fail):
        seam = Seam(trainer, "_get_grad_norm", guest, after, None)
        assert trainer._get_grad_norm(None) is result
        seam.remove()


def test_a_seam_that_was_wrapped_again_becomes_a_plain_passage(tmp_path: Path) -> None:
    """Somebody else's wrapper on top of ours stays where it is, and works."""
    trainer = dpo(tmp_path, [], steps=1)
    calls: list[Any] = []
    trainer._get_grad_norm = lambda *_: 1.0
    seam = Seam(trainer, "_get_grad_norm", Guest(), lambda *call: calls.append(call), None)
    trainer._get_grad_norm = theirs = functools.partial(trainer._get_grad_norm)
    seam.remove()
    assert trainer._get_grad_norm is theirs
    assert trainer._get_grad_norm(None) == 1.0
    assert calls == []


def test_a_second_train_is_watched_too(tmp_path: Path) -> None:
    """It goes on with the baselines of the first, without a second warm-up, in a run of its own."""
    callback = RLWatchCallback(**SILENT)
    trainer = grpo(tmp_path, [callback], steps=10)
    trainer.train()
    first = callback.watch
    trainer.train()
    second = callback.watch
    assert first is not None
    assert second is not None
    assert first is not second
    assert (first.rows, second.rows) == (10, 20)
    assert second.step == 10
    assert second.coverage()["entropy_collapse"].seen == 20
    assert wrapped(trainer) == []


def test_another_trainer_starts_afresh(tmp_path: Path) -> None:
    """One callback in two trainers does not carry the first one's baselines into the second."""
    callback = RLWatchCallback(**SILENT)
    grpo(tmp_path, [callback], steps=3).train()
    grpo(tmp_path, [callback], steps=4).train()
    assert callback.watch is not None
    assert callback.watch.rows == 4


def test_the_callback_does_not_keep_the_trainer(tmp_path: Path) -> None:
    """Whoever holds the callback for its alerts does not hold the model's memory."""
    callback = RLWatchCallback(**SILENT)
    trainer = dpo(tmp_path, [callback], steps=1)
    trainer.train()
    trainer = weakref.ref(trainer)
    gc.collect()
    assert trainer() is None
    assert callback.watch is not None


def test_a_train_that_raised_leaves_the_next_one_whole(tmp_path: Path) -> None:
    """Seams left open by an exception are closed before they are opened again: each step is seen once."""

    class Fails(TrainerCallback):
        armed = True

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2 and self.armed:
                self.armed = False
                raise KeyboardInterrupt

    watch = seen_watch(strict=True)
    trainer = grpo(tmp_path, [RLWatchCallback(watch=watch), Fails()], steps=3)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.train()
    assert watch.column("step") == [1, 2, 1, 2, 3]
    assert all(len(rewards) == 4 for rewards in watch.column("rewards"))
    assert wrapped(trainer) == []


def test_callback_and_trainer_can_be_pickled_and_copied(tmp_path: Path) -> None:
    """A callback is copied as it was constructed; a seam as the method that it stands for."""
    callback = RLWatchCallback(on_critical="halt", **SILENT)
    trainer = dpo(tmp_path, [callback], steps=1)
    trainer.train()
    for twin in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
        assert twin is not callback
        assert twin.watch is None
        assert twin.state()["args"] == {"on_critical": "halt", **SILENT}
    holder = copy.deepcopy(Held())
    seam = Seam(holder, "method", Guest(), lambda *_: None, None)
    twin = pickle.loads(pickle.dumps(holder))
    assert holder.method is seam
    assert twin.method() == 5
    assert not isinstance(twin.method, Seam)


class Held:
    """Something with a method."""

    def method(self) -> int:
        return 5
