"""A poisoned update never reaches the weights of a TRL trainer, and the run goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support_trl import SILENT, SeenWatch, dpo, grpo, kto, online_dpo, rloo, seen_watch, weights
from transformers import TrainerCallback

from rlwatch import Action, Verdict
from rlwatch.adapters.trl import RLWatchCallback, session

pytestmark = pytest.mark.usefixtures("elsewhere")

BAD_STEP = 3
NAN = float("nan")


class Weights(TrainerCallback):
    """Notes which steps changed the weights, the optimizer's state, and the learning rate of each."""

    def __init__(self) -> None:
        self.unchanged: list[int] = []
        self.rates: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._before = weights(kwargs["model"])
        self.rates.append(kwargs["optimizer"].param_groups[0]["lr"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        after = weights(kwargs["model"])
        if all(torch.equal(value, after[name]) for name, value in self._before.items()):
            self.unchanged.append(state.global_step)


def spoil(trainer: Any, method: str, how: Callable[[Any], Any], at: int = BAD_STEP) -> None:
    """Let `method` return `how(result)` while the step `at` is made (steps count from 1)."""
    original = getattr(trainer, method)

    def spoilt(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        return how(result) if trainer.state.global_step == at - 1 and trainer.model.training else result

    setattr(trainer, method, spoilt)


def run(make: Any, folder: Path, watch: SeenWatch, spoilers: list[Any], **changes: Any) -> tuple[Any, Weights]:
    """Train six steps with a spoilt one."""
    seen = Weights()
    trainer = make(folder, [RLWatchCallback(watch=watch), seen], **{"steps": 6, "logging_steps": 10, **changes})
    for method, how in spoilers:
        spoil(trainer, method, how)
    trainer.train()
    return trainer, seen


def finite(trainer: Any) -> bool:
    """Whether all weights are finite."""
    return all(bool(torch.isfinite(value).all()) for value in trainer.model.parameters())


@pytest.mark.parametrize(
    ("make", "method"),
    [
        (grpo, "compute_loss"),
        (rloo, "compute_loss"),
        (dpo, "compute_loss"),
        (kto, "compute_loss"),
        (online_dpo, "_forward"),
    ],
    ids=["grpo", "rloo", "dpo", "kto", "online_dpo"],
)
def test_a_nan_loss_costs_one_update_and_nothing_else(make: Any, method: str, tmp_path: Path) -> None:
    """One critical at that step; the weights stay as they were; steps and learning rate go on to the end."""
    watch = seen_watch(strict=True)
    trainer, seen = run(make, tmp_path, watch, [(method, lambda value: value * NAN)])
    assert finite(trainer)
    assert seen.unchanged == [BAD_STEP]
    assert [(alert.step, alert.detector, alert.critical) for alert in watch.alerts] == [(3, "loss_nonfinite", True)]
    assert trainer.state.global_step == 6
    assert seen.rates == sorted(seen.rates, reverse=True)
    assert len(set(seen.rates)) == 6


@pytest.mark.parametrize("hidden", [True, False])
def test_the_filter_of_hugging_face_hides_nothing(hidden: bool, tmp_path: Path) -> None:
    """With logging_nan_inf_filter a NaN is logged as a fine loss; the row has it either way."""
    watch = seen_watch()
    spoilers = [("compute_loss", lambda loss: loss * NAN)]
    trainer, seen = run(dpo, tmp_path, watch, spoilers, logging_nan_inf_filter=hidden, logging_steps=1)
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert any(loss != loss for loss in losses) is not hidden
    assert [loss != loss for loss in watch.column("loss")] == [False, False, True, False, False, False]
    assert seen.unchanged == [BAD_STEP]


def test_a_non_finite_gradient_of_a_finite_loss_is_withheld(tmp_path: Path) -> None:
    """The gradient overflows in the backward pass: the loss looks well, the norm does not."""
    watch, seen = seen_watch(strict=True), Weights()
    trainer = grpo(tmp_path, [RLWatchCallback(watch=watch), seen], steps=5)
    weight = next(trainer.model.parameters())
    weight.register_hook(lambda grad: grad * (float("inf") if trainer.state.global_step == BAD_STEP - 1 else 1.0))
    trainer.train()
    assert finite(trainer)
    assert seen.unchanged == [BAD_STEP]
    (alert,) = watch.alerts
    assert (alert.step, list(alert.evidence["values"])) == (BAD_STEP, ["grad_norm"])


def test_one_bad_micro_batch_spoils_its_whole_step(tmp_path: Path) -> None:
    """A NaN in one of four accumulated micro-batches is in the sum of the gradients, so none of it is applied."""
    watch, calls = seen_watch(), []

    def every_fourth(loss: torch.Tensor) -> torch.Tensor:
        calls.append(loss)
        return loss * NAN if len(calls) == 2 else loss

    trainer, seen = run(dpo, tmp_path, watch, [("compute_loss", every_fourth)], gradient_accumulation_steps=4)
    assert len(calls) == 4
    assert finite(trainer)
    assert seen.unchanged == [BAD_STEP]


def test_on_nonfinite_continue_only_reports(tmp_path: Path) -> None:
    """The update goes through where the user wants it to."""
    watch = seen_watch(on_nonfinite="continue")
    trainer, _seen = run(dpo, tmp_path, watch, [("compute_loss", lambda loss: loss * NAN)])
    assert not finite(trainer)
    assert next(alert.step for alert in watch.alerts) == BAD_STEP


class Answers(SeenWatch):
    """A Watch that answers step 3 with `action`."""

    action = Action.CONTINUE

    def log(self, metrics: Any = None, *, step: int | None = None, **signals: Any) -> Verdict:
        verdict = super().log(metrics, step=step, **signals)
        return Verdict(BAD_STEP, action=self.action) if step == BAD_STEP else verdict


def test_a_skip_withholds_a_finite_update(tmp_path: Path) -> None:
    """`on_critical="skip"`: the verdict alone decides."""
    watch = Answers(**SILENT)
    watch.action = Action.SKIP
    _, seen = run(grpo, tmp_path, watch, [])
    assert seen.unchanged == [BAD_STEP]


def test_the_weights_stay_guarded_when_the_watch_is_broken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The values are looked at without it as well, and what broke is named once."""

    class Broken(SeenWatch):
        def log(self, *args: Any, **kwargs: Any) -> Verdict:
            raise ZeroDivisionError("a bug of ours")

    with caplog.at_level(logging.WARNING, "rlwatch"):
        trainer, seen = run(dpo, tmp_path, Broken(**SILENT), [("compute_loss", lambda loss: loss * NAN)], steps=8)
    assert trainer.state.global_step == 8
    assert finite(trainer)
    assert seen.unchanged == [BAD_STEP]
    said = [record.message for record in caplog.records if "a bug of ours" in record.message]
    assert len(said) == 1
    assert session.JUDGING in said[0]


def test_where_the_optimizer_steps_inside_backward_a_bad_loss_is_kept_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As under DeepSpeed: no backward pass for a non-finite loss, and a line on what stays unguarded."""
    monkeypatch.setattr(session, "steps_inside_backward", lambda trainer: True)
    passes: list[float] = []
    watch, seen = seen_watch(strict=True), Weights()
    trainer = dpo(tmp_path, [RLWatchCallback(watch=watch), seen], steps=5)
    backward = trainer.accelerator.backward
    trainer.accelerator.backward = lambda loss, **kwargs: (
        passes.append(float(loss.detach())),
        backward(loss, **kwargs),
    )[1]
    spoil(trainer, "compute_loss", lambda loss: loss * NAN)
    with caplog.at_level(logging.WARNING, "rlwatch"):
        trainer.train()
    assert len(passes) == 4
    assert finite(trainer)
    assert seen.unchanged == [BAD_STEP]
    assert [alert.step for alert in watch.alerts] == [BAD_STEP]
    assert "check_grad_overflow" in caplog.text


def scaled(trainer: Any, monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    """Train as under fp16, with a real gradient scaler (on the CPU Accelerate builds none by itself)."""
    accelerator = trainer.accelerator
    accelerator.scaler, accelerator.native_amp = torch.amp.GradScaler("cpu", init_scale=scale), True
    monkeypatch.setattr(type(accelerator), "mixed_precision", property(lambda self: "fp16"))


def test_a_gradient_scaler_that_finds_its_scale_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first overflows are its own business; a NaN loss under it is withheld all the same."""
    watch, seen = seen_watch(strict=True), Weights()
    trainer = dpo(tmp_path, [RLWatchCallback(watch=watch), seen], steps=10)
    scaled(trainer, monkeypatch, 2.0**125)
    spoil(trainer, "compute_loss", lambda loss: loss * NAN, at=8)
    original = trainer.compute_loss
    trainer.compute_loss = lambda *args, **kwargs: original(*args, **kwargs) * 8  # overflows until about 2^122
    trainer.train()
    norms = watch.column("grad_norm")
    assert norms[0] is None
    assert norms[-1] is not None
    assert [alert.step for alert in watch.alerts] == [8]
    assert seen.unchanged == [step for step, norm in enumerate(norms, 1) if norm is None or norm != norm]
    assert finite(trainer)


def test_a_gradient_scaler_that_finds_no_scale_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 16 halvings in a row it is the gradient that overflows, not its scale."""
    watch = seen_watch(strict=True)
    trainer = dpo(tmp_path, [RLWatchCallback(watch=watch)], steps=18)
    scaled(trainer, monkeypatch, 2.0**16)
    next(trainer.model.parameters()).register_hook(lambda grad: grad * float("inf"))
    trainer.train()
    assert [alert.step for alert in watch.alerts] == [session.MAX_OVERFLOWS + 1]
    assert finite(trainer)
