"""Rollback across checkpoints: a resume knows what was changed, and `train` resumes where a run cannot go back."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from support_trl import SILENT, grpo
from test_trl_rollback import GOES_BACK, Journal, Told, entries, event, finite, told_run

from rlwatch.adapters.trl import RLWatchCallback, saved, train
from rlwatch.responses.checkpoints import read_tags

pytestmark = pytest.mark.usefixtures("elsewhere")

SAVES = {"save_strategy": "steps", "save_steps": 10}
NO_MEMORY = {"snapshot_memory": 1000}
"""A kilobyte: no snapshot fits, so that the run can only go back by way of a checkpoint."""


def test_a_resumed_run_keeps_what_was_changed(tmp_path: Path) -> None:
    """Learning rate, beta, and the budget used; the checkpoint says so in strict JSON."""
    told = {13: "kl_explosion", 30: "kl_explosion"}
    whole, _, _ = told_run(grpo, tmp_path, told, steps=40, beta=0.1, **SAVES)
    assert whole.beta == pytest.approx(0.4)
    entry = json.loads((tmp_path / "checkpoint-40/trainer_state.json").read_text())["stateful_callbacks"]
    kept = entry["RLWatchCallback"]["attributes"][saved.KEY][saved.ROLLBACK]
    assert kept["knobs"]["kl_coef"] == [0.1, pytest.approx(0.4)]
    assert len(kept["done"]) == 2
    watch, journal = Told({45: "kl_explosion", 55: "kl_explosion"}), Journal()
    trainer = grpo(tmp_path, [RLWatchCallback(watch=watch), journal], steps=60, beta=0.1, **SAVES)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-40"))
    assert event(watch)["used"] == 3
    assert "budget of 3 rollbacks is used up" in event(watch, "halt")["message"]
    assert trainer.state.global_step == 55
    assert trainer.beta == pytest.approx(0.8)


def test_a_script_that_sets_another_value_has_its_way(tmp_path: Path) -> None:
    """The user resumes with a beta of their own: it is not overwritten."""
    told_run(grpo, tmp_path, {13: "kl_explosion"}, steps=20, beta=0.1, **SAVES)
    trainer = grpo(tmp_path, [RLWatchCallback(watch=Told({}))], steps=22, beta=0.3, **SAVES)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-20"))
    assert trainer.beta == 0.3


def test_what_cannot_go_back_stops_and_names_the_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No sick checkpoint is written; the message can be copied into the script."""
    caplog.set_level(logging.WARNING, "rlwatch")
    trainer, watch, _ = told_run(grpo, tmp_path, {45: "kl_explosion"}, steps=60, watch=NO_MEMORY, **SAVES)
    assert trainer.state.global_step == 45
    assert not (tmp_path / "checkpoint-45").exists()
    halt = event(watch, "halt")
    advised = Path(halt["checkpoint"])
    row = int(advised.name.partition("-")[2])  # steps count from 1, rows from 0: the first row measured on its weights
    assert watch.health.standing(row).value != "poisoned"
    assert f"trainer.train(resume_from_checkpoint={str(advised)!r})" in halt["message"]
    assert halt["message"] in caplog.text
    (entry,) = entries(trainer, "halt")
    assert entry["step"] == 45


def test_checkpoints_are_tagged(tmp_path: Path) -> None:
    """The one of before the onset is none that the alert was traced to, those after it are poisoned."""
    callback = RLWatchCallback(**SILENT, on_critical="continue")
    trainer = grpo(tmp_path, [callback], steps=36, save_strategy="steps", save_steps=12)
    original = trainer.compute_loss

    def compute_loss(*args: Any, **kwargs: Any) -> Any:
        loss = original(*args, **kwargs)
        return loss * float("nan") if trainer.state.global_step >= 30 else loss

    trainer.compute_loss = compute_loss
    trainer.train()
    tags = {tag.step: tag.health for tag in read_tags(tmp_path)}
    assert list(tags) == [12, 24, 36]
    assert tags[36] == "poisoned"
    assert tags[12] != "poisoned"


def test_without_a_checkpoint_from_before_it_just_stops(tmp_path: Path) -> None:
    """And says that there is none."""
    trainer, watch, _ = told_run(grpo, tmp_path, {45: "kl_explosion"}, steps=60, watch=NO_MEMORY)
    assert trainer.state.global_step == 45
    assert "there is no checkpoint from before the trouble" in event(watch, "halt")["message"]


def test_train_stops_changes_something_and_resumes(tmp_path: Path) -> None:
    """Twice: the second time from a checkpoint that knows of the first; the run ends with both remedies."""
    watch, journal = Told({45: "kl_explosion"}, **NO_MEMORY), Journal()
    callback = RLWatchCallback(watch=watch)
    trainer = grpo(tmp_path, [callback, journal], steps=60, beta=0.1, **SAVES)
    original = trainer.train
    starts: list[tuple[Any, bool]] = []

    def counted(resume_from_checkpoint: Any = None) -> Any:
        starts.append((resume_from_checkpoint, trainer.args.ignore_data_skip))
        if len(starts) == 2:
            watch.told = {58: "kl_explosion"}
        elif len(starts) == 3:
            watch.told = {}
        return original(resume_from_checkpoint=resume_from_checkpoint)

    trainer.train = counted
    output = train(trainer)
    assert output.global_step == trainer.state.global_step == 60
    assert [skips for _, skips in starts] == [False, True, True]
    assert trainer.args.ignore_data_skip is False
    messages = [each["message"] for each in watch.events if each["event"] == "rollback"]
    assert len(messages) == 2
    assert trainer.beta == pytest.approx(0.4)
    assert journal.rates[60] == pytest.approx(0.04 * 1e-3 / 60)
    assert finite(trainer)
    assert callback.advice is None


def test_train_keeps_to_the_budget(tmp_path: Path) -> None:
    """A failure that no remedy cures ends in a halt, not in a loop."""
    watch = Told({45: "kl_explosion"}, rollback_budget=2, **NO_MEMORY)
    trainer = grpo(tmp_path, [RLWatchCallback(watch=watch)], steps=60, **SAVES)
    train(trainer)
    assert trainer.state.global_step == 45
    halts = [each["message"] for each in watch.events if each["event"] == "halt"]
    assert len(halts) == 3
    assert "the budget of 2 rollbacks is used up" in halts[-1]


def test_train_gives_rlwatch_to_a_trainer_without_it(tmp_path: Path) -> None:
    """One call, `on_critical="rollback"`."""
    trainer = grpo(tmp_path, [], steps=3)
    train(trainer, record=False, console=False)
    (callback,) = [each for each in trainer.callback_handler.callbacks if isinstance(each, RLWatchCallback)]
    assert callback.watch is not None
    assert callback.watch.settings.on_critical == "rollback"
    assert callback.watch.rows == 3
    with pytest.raises(TypeError, match="transformers or TRL trainer"):
        train(torch.nn.Linear(1, 1))


def test_snapshots_are_given_back_at_the_end(tmp_path: Path) -> None:
    """Their memory does not outlive the run."""
    callback = RLWatchCallback(**GOES_BACK)
    trainer = grpo(tmp_path, [callback], steps=8)
    trainer.train()
    assert callback._last is not None
    assert callback._last._rollback is not None
    assert callback._last._rollback.snapshots.taken > 0
    assert callback._last._rollback.snapshots.kept == []
