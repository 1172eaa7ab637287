"""What a real GRPO run leaves: its output folder, what it printed, its event files; all read as the same run."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from rlwatch import Watch
from rlwatch.offline.ingest import Log

STEPS = 6


class Trained:
    """The folder of a run of a few steps, and what it printed."""

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("tensorboard")
        pytest.importorskip("pyarrow")
        from support_trl import grpo

        self.folder = folder
        printed = io.StringIO()
        trainer = grpo(
            folder, [], steps=STEPS, log_completions=True, save_strategy="steps", save_steps=3, disable_tqdm=True,
            report_to="tensorboard",
        )  # fmt: skip
        with redirect_stdout(printed):
            trainer.train()
        self.printed = printed.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One training for all tests."""
    return Trained(tmp_path_factory.mktemp("out"))


def test_the_output_folder_gives_metrics_and_samples(trained: Trained) -> None:
    """The newest state, with the completions, rewards and advantages of each step beside it."""
    log = Log(trained.folder)
    rows = list(log)
    assert [row.step for row in rows] == list(range(1, STEPS + 1))
    assert log.format == "Hugging Face trainer state with TRL completions"
    assert {"completions", "prompts", "advantages", "rewards"} <= log.sources.keys()
    for row in rows:
        rewards = row.metrics["rewards"]
        assert len(rewards) == len(row.metrics["completions"])
        assert sum(rewards) / len(rewards) == pytest.approx(row.metrics["reward"], abs=1e-4)
    with Watch(record=False, console=False, strict=True) as watch:
        for row in rows:
            watch.log(row.metrics, step=row.step)


def test_the_printed_log_is_the_same_run(trained: Trained, tmp_path: Path) -> None:
    """The dicts that the trainer prints, between the tables of completions, to the digits that it prints."""
    (tmp_path / "train.log").write_text(trained.printed)
    log = Log(tmp_path / "train.log")
    printed, whole = list(log), list(Log(trained.folder))
    assert log.format == "console log"
    assert len(printed) == STEPS
    assert log.skipped == 1  # the closing summary
    assert log.ended
    for one, other in zip(printed, whole, strict=True):
        for key in ("reward", "entropy", "grad_norm"):
            assert one.metrics[key] == pytest.approx(other.metrics[key], rel=1e-3)


def test_the_event_files_are_the_same_run(trained: Trained) -> None:
    """TensorBoard's scalars in single precision, under `train/`."""
    events = next(trained.folder.glob("**/*tfevents*")).parent
    rows, whole = list(Log(events)), list(Log(trained.folder))
    assert [row.step for row in rows] == [row.step for row in whole]
    for one, other in zip(rows, whole, strict=True):
        assert one.metrics["train/entropy"] == pytest.approx(other.metrics["entropy"], rel=1e-6)


def test_a_real_monitor_file(tmp_path: Path, elsewhere: Callable[..., Any]) -> None:
    """Stable-Baselines3's Monitor around a real environment."""
    gymnasium = pytest.importorskip("gymnasium")
    monitor = pytest.importorskip("stable_baselines3.common.monitor")
    env = monitor.Monitor(gymnasium.make("CartPole-v1"), str(tmp_path / "run"))
    env.action_space.seed(0)
    for seed in range(30):
        env.reset(seed=seed)
        while not any(env.step(env.action_space.sample())[2:4]):
            pass
    lengths = env.get_episode_lengths()
    env.close()
    rows = list(Log(tmp_path / "run.monitor.csv"))
    assert [row.step for row in rows] == [sum(lengths[:n]) for n in (10, 20, 30)]
    assert rows[-1].metrics["rollout/ep_rew_mean"] == pytest.approx(sum(lengths) / 30)
