"""How the callback gets into a trainer, and finds it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from support_trl import SILENT, grpo, seen_watch, tiny_model
from transformers import Trainer, TrainerCallback, TrainingArguments

import rlwatch
from rlwatch.adapters.trl import RLWatchCallback, attach, find

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_attach_is_the_same_as_passing_the_callback(tmp_path: Path) -> None:
    """On a trainer that exists, also while its class is given instead of an instance."""
    trainer = grpo(tmp_path, [], steps=2)
    callback = rlwatch.attach(trainer, **SILENT)
    trainer.train()
    assert callback.watch is not None
    assert callback.watch.rows == 2


def test_attaching_twice_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first callback is given back, and settings that come too late are named."""
    trainer = grpo(tmp_path, [RLWatchCallback(**SILENT)], steps=2)
    first = attach(trainer)
    assert caplog.text == ""
    assert attach(trainer, on_critical="halt") is first
    assert "watched already" in caplog.text
    assert sum(isinstance(item, RLWatchCallback) for item in trainer.callback_handler.callbacks) == 1


def test_attach_wants_a_trainer() -> None:
    """Anything else is named in one sentence."""
    with pytest.raises(TypeError, match="got dict"):
        attach({})


def test_two_callbacks_watch_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second one does nothing and says so; checkpoints are saved as usual."""
    first, second = seen_watch(), seen_watch()
    callbacks = [RLWatchCallback(watch=first), RLWatchCallback(watch=second)]
    trainer = grpo(tmp_path, callbacks, steps=2, save_strategy="steps", save_steps=1)
    trainer.train()
    assert (len(first.seen), len(second.seen)) == (2, 0)
    assert "the second does nothing" in caplog.text
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert first.column("step") == [1, 2, 2]


def test_settings_are_checked_at_once() -> None:
    """A misspelt key is an error where it is written, not in the middle of a run."""
    with pytest.raises(rlwatch.ConfigError, match="entropy_collapse"):
        RLWatchCallback(entropy_colapse=False)
    with pytest.raises(ValueError, match="either watch= or settings"):
        RLWatchCallback("grpo", watch=seen_watch())


def test_the_trainer_is_found_without_a_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where frames cannot be read, the objects that refer to the callback lead to it."""
    monkeypatch.setattr(find, "_on_the_stack", lambda callback: None)
    watch = seen_watch(strict=True)
    trainer = grpo(tmp_path, [RLWatchCallback(watch=watch)], steps=2)
    other = grpo(tmp_path, [RLWatchCallback(watch=seen_watch())], steps=2)
    trainer.train()
    assert len(watch.seen) == 2
    assert watch.seen[0]["rewards"] is not None
    assert find.find_trainer(other.callback_handler.callbacks[-2]) is other


def test_strangers_on_the_stack_are_no_trainers() -> None:
    """Objects that answer to any attribute, or raise at it, are passed over."""

    class Raises:
        @property
        def callback_handler(self) -> Any:
            raise RuntimeError("not now")

    callback = RLWatchCallback(**SILENT)
    assert not find.owns(MagicMock(), callback)
    assert not find.owns(Raises(), callback)
    assert find.find_trainer(callback) is None


def test_without_a_trainer_the_log_is_watched_and_the_loss_of_sight_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It then sees each log once, no evaluation and no summary, and names the way out."""
    monkeypatch.setattr("rlwatch.adapters.trl.callback.find_trainer", lambda *_: None)
    watch = seen_watch(strict=True)
    grpo(tmp_path, [RLWatchCallback(watch=watch)], steps=12, logging_steps=2).train()
    assert watch.column("step") == [2, 4, 6, 8, 10, 12]
    assert "rlwatch.attach(trainer)" in caplog.text
    assert "rlwatch.attach(trainer)" in watch.coverage()["advantage_spike"].fix


def test_without_transformers_one_sentence_says_what_to_install() -> None:
    """The adapter is loaded when it is used, and names the extra."""
    code = "import sys; sys.modules['transformers'] = None; import rlwatch; rlwatch.RLWatchCallback"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.strip().endswith("pip install 'rlwatch[trl]'")


def test_any_hugging_face_trainer_can_be_watched(tmp_path: Path) -> None:
    """Loss, gradient norm and learning rate come from every Trainer; no preset is guessed for it."""
    arguments = TrainingArguments(str(tmp_path), max_steps=3, report_to="none", use_cpu=True, disable_tqdm=True)
    rows = [{"input_ids": [5, 6, 7], "labels": [5, 6, 7]} for _ in range(32)]
    callback = RLWatchCallback(**SILENT)
    trainer = Trainer(model=tiny_model(), args=arguments, train_dataset=rows, callbacks=[callback])
    trainer.train()
    assert callback.watch is not None
    assert callback.watch.rows == 3
    assert callback.watch.settings.preset is None
    assert callback.watch.coverage()["loss_nonfinite"].state == "armed"


def test_a_callback_added_during_training_joins_in(tmp_path: Path) -> None:
    """From the next step on, and the checkpoints that follow are saved."""

    class Adds(TrainerCallback):
        trainer: Any = None
        late: Any = None

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                self.late = attach(self.trainer, **SILENT)

    adds = Adds()
    adds.trainer = grpo(tmp_path, [adds], steps=5, save_strategy="steps", save_steps=1)
    adds.trainer.train()
    assert adds.late.watch.rows == 3
    assert adds.trainer.state.global_step == 5
