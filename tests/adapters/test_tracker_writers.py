"""The TensorBoard writer that TRL or Stable-Baselines3 has open gets the numbers of the watch too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def scalars(folder: Path) -> Any:
    """The scalars in the event file below a folder."""
    [file] = folder.rglob("*tfevents*")
    events = accumulator.EventAccumulator(str(file), size_guidance={"scalars": 0})
    events.Reload()
    return events


def test_trl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`report_to="tensorboard"`: the numbers are in the same file as the trainer's."""
    pytest.importorskip("trl")
    import support_trl

    from rlwatch import RLWatchCallback

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "tb"))
    callback = RLWatchCallback(**support_trl.SILENT)
    trainer = support_trl.grpo(tmp_path, [callback], steps=3, report_to="tensorboard")
    trainer.train()
    events = scalars(tmp_path)
    assert "train/reward" in events.Tags()["scalars"]
    assert [point.value for point in events.Scalars("rlwatch/health")] == [1.0]


def test_sb3(tmp_path: Path) -> None:
    """`tensorboard_log=`: the numbers are in the same file as the model's."""
    pytest.importorskip("stable_baselines3")
    import support_sb3

    from rlwatch.adapters.sb3 import RLWatchCallback

    model = support_sb3.make("ppo", tensorboard_log=str(tmp_path))
    model.learn(1024, callback=RLWatchCallback(**support_sb3.SILENT))
    events = scalars(tmp_path)
    assert "train/loss" in events.Tags()["scalars"]
    assert [point.value for point in events.Scalars("rlwatch/health")] == [1.0]
