"""Detector state rides in the checkpoint, and a resumed run goes on as if it had not been interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support_trl import SILENT, SeenWatch, digits, grpo, seen_watch
from transformers import TrainerCallback

from rlwatch.adapters.trl import RLWatchCallback, saved
from rlwatch.guest import Guest

pytestmark = pytest.mark.usefixtures("elsewhere")

STEPS, SAVED, BROKEN = 30, 16, 24


def breaks(completions: list[str], trainer_state: Any, **_: Any) -> list[float]:
    """Reward: digits, and a hundredfold from the step `BROKEN` on."""
    scale = 100.0 if trainer_state.global_step >= BROKEN else 1.0
    return [scale * reward for reward in digits(completions)]


def trainer_with(folder: Path, callbacks: list[Any], **changes: Any) -> Any:
    """GRPO whose reward breaks, with a checkpoint at step `SAVED`."""
    given = {"steps": STEPS, "reward_funcs": [breaks], "save_strategy": "steps", "save_steps": SAVED}
    return grpo(folder, callbacks, **{**given, **changes})


@pytest.fixture(autouse=True)
def _seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watches that the callback makes keep their rows."""
    monkeypatch.setattr("rlwatch.adapters.trl.families.Watch", SeenWatch)


def alerts_of(watched: RLWatchCallback) -> list[tuple[Any, ...]]:
    """Detector, severity, step, message and evidence of every alert."""
    assert watched.watch is not None
    return [
        tuple(alert.as_dict()[k] for k in ("detector", "severity", "step", "message")) for alert in watched.watch.alerts
    ]


def test_a_resumed_run_raises_the_alerts_of_an_uninterrupted_one(tmp_path: Path) -> None:
    """The same detectors at the same steps with the same figures: no second warm-up, nothing forgotten."""
    whole = RLWatchCallback(**SILENT)
    trainer_with(tmp_path, [whole]).train()
    assert any(step > BROKEN for _, _, step, _ in alerts_of(whole))
    resumed = RLWatchCallback(**SILENT)
    trainer_with(tmp_path, [resumed]).train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{SAVED}"))
    assert resumed.watch.column("step") == list(range(SAVED + 1, STEPS + 1))
    assert resumed.watch.column("rewards")[0].tolist() == whole.watch.column("rewards")[SAVED].tolist()
    assert alerts_of(resumed) == [alert for alert in alerts_of(whole) if alert[2] > SAVED]
    assert resumed.watch.rows == whole.watch.rows == STEPS


def test_hugging_faces_own_restoring_works_too(tmp_path: Path) -> None:
    """It replaces the callback by a copy; the user's instance still shows the run, with the new script's settings."""
    first = RLWatchCallback(**SILENT)
    trainer_with(tmp_path, [first]).train()
    mine = RLWatchCallback(entropy_collapse=False, **SILENT)
    trainer = trainer_with(tmp_path, [mine], restore_callback_states_from_checkpoint=True)
    trainer.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{SAVED}"))
    (copy,) = [item for item in trainer.callback_handler.callbacks if isinstance(item, RLWatchCallback)]
    assert copy is not mine
    assert copy.watch is mine.watch is not None
    assert mine.watch.rows == STEPS
    assert mine.watch.column("step")[0] == SAVED + 1
    assert mine.watch.coverage()["entropy_collapse"].state == "off"


def test_a_checkpoint_made_without_rlwatch_can_be_resumed_with_it(tmp_path: Path) -> None:
    """Hugging Face looks our entry up at the next save; it is there."""
    trainer_with(tmp_path, [], steps=2, save_steps=1).train()
    watched = RLWatchCallback(**SILENT)
    trainer = trainer_with(tmp_path, [watched], steps=4, save_steps=1)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert watched.watch.column("step") == [3, 4]
    written = json.loads((tmp_path / "checkpoint-4/trainer_state.json").read_text())
    assert written["stateful_callbacks"]["RLWatchCallback"]["attributes"][saved.KEY]["rows"] == 2


def test_the_entry_is_strict_json(tmp_path: Path) -> None:
    """No NaN, no NumPy, and the keywords that can be written down; a watch of the user's own is saved as well."""
    watch = seen_watch()
    trainer_with(tmp_path, [RLWatchCallback(watch=watch)], steps=12, save_steps=12).train()
    text = (tmp_path / "checkpoint-12/trainer_state.json").read_text()

    def refuse(token: str) -> float:
        raise AssertionError(f"{token} in trainer_state.json")

    entry = json.loads(text, parse_constant=refuse)["stateful_callbacks"]["RLWatchCallback"]
    assert entry["attributes"][saved.KEY]["rows"] == 12


def test_a_state_that_cannot_be_saved_does_not_fail_the_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The checkpoint is written without it, and one line says so."""

    class Unsavable(SeenWatch):
        def state_dict(self) -> dict[str, Any]:
            return {"rows": float("nan")}

    watch = Unsavable(**SILENT)
    trainer_with(tmp_path, [RLWatchCallback(watch=watch)], steps=3, save_steps=1).train()
    assert (tmp_path / "checkpoint-3/trainer_state.json").exists()
    assert caplog.text.count("saving the detectors' state failed, ") == 1
    assert saved.exported({}, watch, Guest()) == {"args": {}, "attributes": {saved.KEY: {}}}


def test_settings_that_are_no_json_are_left_out_of_the_checkpoint(tmp_path: Path) -> None:
    """A Path among the settings must not fail the save."""
    watched = RLWatchCallback(runs_dir=tmp_path / "runs", record=False, console=False)
    trainer_with(tmp_path, [watched], steps=1, save_steps=1).train()
    written = json.loads((tmp_path / "checkpoint-1/trainer_state.json").read_text())
    assert written["stateful_callbacks"]["RLWatchCallback"]["args"] == SILENT


def test_a_halt_stops_at_its_step_with_a_checkpoint(tmp_path: Path) -> None:
    """`on_critical="halt"`: no further step, and what was reached is saved."""

    class Last(TrainerCallback):
        def __init__(self) -> None:
            self.steps: list[int] = []

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.steps.append(state.global_step + 1)

    whole = RLWatchCallback(**SILENT)
    trainer_with(tmp_path / "whole", [whole]).train()
    first = min(step for _, severity, step, _ in alerts_of(whole) if severity == "critical")
    watched, last = RLWatchCallback(on_critical="halt", **SILENT), Last()
    trainer = trainer_with(tmp_path / "halted", [watched, last])
    trainer.train()
    assert trainer.state.global_step == last.steps[-1] == first < STEPS
    assert (tmp_path / "halted" / f"checkpoint-{first}").is_dir()


def test_a_halt_makes_no_checkpoint_where_the_user_wants_none(tmp_path: Path) -> None:
    """`save_strategy="no"` holds for us too; and the next train() is free to run."""
    watched = RLWatchCallback(on_critical="halt", **SILENT)
    trainer = trainer_with(tmp_path, [watched], save_strategy="no")
    trainer.train()
    stopped = trainer.state.global_step
    assert BROKEN <= stopped < STEPS
    assert not list(tmp_path.glob("checkpoint-*"))
    trainer.train()
    assert trainer.state.global_step > 1
