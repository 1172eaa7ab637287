"""Whatever of ours fails, the trainer goes on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from support_trl import SILENT, SeenWatch, grpo, seen_watch

from rlwatch.adapters.trl import RLWatchCallback
from rlwatch.detectors.registry import detector_classes

pytestmark = pytest.mark.usefixtures("elsewhere")


class Broken(SeenWatch):
    """A Watch whose log always raises."""

    def log(self, *args: Any, **kwargs: Any) -> Any:
        self.seen.append({})
        raise RuntimeError("a bug in the watch")


def test_a_watch_that_raises_never_stops_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is named once with the part that failed, and left alone after three times."""
    watch = Broken(**SILENT)
    trainer = grpo(tmp_path, [RLWatchCallback(watch=watch)], steps=6)
    with caplog.at_level(logging.WARNING, "rlwatch"):
        trainer.train()
    assert trainer.state.global_step == 6
    assert len(watch.seen) == 3
    assert caplog.text.count("a bug in the watch") == 1
    assert "switched off" in caplog.text


def test_a_detector_that_raises_never_stops_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on, and the coverage says which one failed."""

    def fail(*_: Any) -> None:
        raise RuntimeError("a bug in a detector")

    monkeypatch.setattr(detector_classes()["entropy_collapse"], "check", fail)
    watch = seen_watch()
    grpo(tmp_path, [RLWatchCallback(watch=watch)], steps=12).train()
    assert watch.coverage()["entropy_collapse"].state == "failed"
    assert watch.coverage()["gradient_spike"].state == "armed"


@pytest.mark.parametrize("part", ["_on_rollout", "_on_rewards", "take"])
def test_a_broken_part_costs_its_own_signals_only(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rollouts that cannot be read leave the losses where they are."""

    def fail(*_: Any) -> None:
        raise RuntimeError("cannot read the rollouts")

    monkeypatch.setattr(f"rlwatch.adapters.trl.rollouts.Rollouts.{part}", fail)
    watch = seen_watch()
    trainer = grpo(tmp_path, [RLWatchCallback(watch=watch)], steps=5)
    trainer.train()
    assert trainer.state.global_step == 5
    assert caplog.text.count("cannot read the rollouts") == 1
    if part != "take":
        assert all(loss is not None for loss in watch.column("loss"))
        assert watch.column("rewards") == [None] * 5


def test_a_metric_of_the_users_that_is_no_number_is_passed_over(tmp_path: Path) -> None:
    """What a subclass puts into TRL's lists is its own business."""
    watch = seen_watch(strict=True)
    trainer = grpo(tmp_path, [RLWatchCallback(watch=watch)], steps=2, logging_steps=10)
    original = trainer.compute_loss

    def odd(*args: Any, **kwargs: Any) -> Any:
        trainer._metrics["train"]["odd"] = ["text"] if trainer.state.global_step == 0 else []
        return original(*args, **kwargs)

    trainer.compute_loss = odd
    trainer.train()
    assert watch.column("odd") == [None, None]
    assert watch.rows == 2
