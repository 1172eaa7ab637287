"""From a log's dicts to rows: steps, numbers, and what is a row at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlwatch.offline.ingest import Log, read

Write = Callable[..., Path]


def test_rows_carry_their_step_and_metrics(write: Write) -> None:
    """A plain JSONL log gives a row a line, the step taken out of the metrics."""
    path = write("run.jsonl", {"step": 3, "kl": 0.1, "n": 7}, {"step": 5, "kl": 0.2})
    assert list(read(path)) == [(3, {"kl": 0.1, "n": 7.0}), (5, {"kl": 0.2})]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"NaN"', math.nan),
        ("NaN", math.nan),
        ('"Infinity"', math.inf),
        ("Infinity", math.inf),
        ('"inf"', math.inf),
        ('"-Infinity"', -math.inf),
        ("-Infinity", -math.inf),
        ("1e400", math.inf),
        ('"0.25"', 0.25),
        ("true", 1.0),
        ("1" + "0" * 400, math.inf),
        ("-1" + "0" * 400, -math.inf),
    ],
)
def test_numbers_in_every_spelling(tmp_path: Path, text: str, value: float) -> None:
    """Non-finite numbers come as tokens or text, numbers beyond a double become infinite."""
    path = tmp_path / "run.jsonl"
    path.write_text(f'{{"step": 1, "x": {text}, "kl": 0.5}}\n')
    (row,) = read(path)
    assert row.metrics["x"] == value or (math.isnan(value) and math.isnan(row.metrics["x"]))


def test_what_is_no_number_is_left_out(write: Write) -> None:
    """Text, nulls and lists of nothing known do not reach the detectors; sample arrays and mapped keys do."""
    raw = {"step": 1, "kl": 0.1, "note": "warm", "gone": None, "generated_samples": ["a", 0.5], "my/r": [1.0],
           "rewards": [0.0, None, 1.0]}  # fmt: skip
    (row,) = read(write("run.jsonl", raw), {"advantages": "my/r"})
    assert row.metrics == {"kl": 0.1, "rewards": [0.0, None, 1.0], "my/r": [1.0]}


@pytest.mark.parametrize("key", ["step", "global_step", "_step", "training/global_step", "train/global_step"])
def test_the_step_stands_under_many_names(write: Write, key: str) -> None:
    """Trackers and frameworks name the step differently, and may write it as a float."""
    path = write("run.jsonl", {key: 40.0, "kl": 0.1}, {key: 50.0, "kl": 0.2})
    assert [row.step for row in read(path)] == [40, 50]


def test_a_trainers_step_goes_before_the_trackers(write: Write) -> None:
    """W&B's `_step` counts log calls, so the trainer's own step is preferred."""
    path = write("run.jsonl", {"_step": 17, "train/global_step": 8, "kl": 0.1})
    assert next(read(path)).step == 8


def test_rows_without_a_step_are_counted(write: Write) -> None:
    """A log that names no step has its row numbers; a single gap goes on with the step before."""
    assert [row.step for row in read(write("a.jsonl", {"kl": 0.1}, {"kl": 0.2}))] == [0, 1]
    gap = write("b.jsonl", {"step": 7, "kl": 0.1}, {"kl": 0.2}, {"step": 9, "kl": 0.3})
    assert [row.step for row in read(gap)] == [7, 7, 9]


@pytest.mark.parametrize("step", [math.nan, math.inf, 10**30, "soon", None, [3]])
def test_a_step_that_is_no_number_is_not_taken(write: Write, step: Any) -> None:
    """A step that cannot be one is left to the next name, here to the row number."""
    (row,) = read(write("run.jsonl", {"step": step, "kl": 0.1}))
    assert row.step == 0


def test_the_step_can_be_mapped(write: Write) -> None:
    """Where rows are micro-batches, the user may name the optimizer step."""
    path = write("run.jsonl", {"step": 5, "orig_step": 2, "kl": 0.1})
    assert next(read(path, {"step": "orig_step"})).step == 2


def test_steps_may_repeat_and_go_back(write: Write) -> None:
    """A restart is passed on as it stands in the log."""
    path = write("run.jsonl", *({"step": step, "kl": step / 10} for step in (1, 2, 3, 2, 3, 3)))
    assert [row.step for row in read(path)] == [1, 2, 3, 2, 3, 3]


def test_parts_of_one_step_become_one_row(write: Write) -> None:
    """A rollout and an update logged apart under one step complete each other, different clocks or not."""
    path = write(
        "run.jsonl",
        {"step": 1, "train/approx_kl": 0.01, "time/total_timesteps": 64, "_timestamp": 1.0},
        {"step": 1, "rollout/ep_rew_mean": 5.0, "time/total_timesteps": 64, "_timestamp": 2.0},
        {"step": 2, "train/approx_kl": 0.02},
    )
    first, second = read(path)
    assert (first.metrics["train/approx_kl"], first.metrics["rollout/ep_rew_mean"]) == (0.01, 5.0)
    assert second == (2, {"train/approx_kl": 0.02})


def test_rows_that_contradict_or_repeat_stay_apart(write: Write) -> None:
    """Micro-batches and restarts share a step without being parts of one row."""
    path = write(
        "run.jsonl",
        {"step": 1, "kl": 0.1, "loss": 1.0},
        {"step": 1, "kl": 0.2, "entropy": 1.0},
        {"step": 1, "kl": 0.2, "entropy": 1.0},
    )
    assert len(list(read(path))) == 3


def test_evaluations_and_summaries_are_no_steps(write: Write) -> None:
    """Hugging Face logs evaluations and the end of the run beside the steps."""
    path = write(
        "run.jsonl",
        {"step": 1, "loss": 0.5, "epoch": 0.1},
        {"step": 1, "eval_loss": 0.4, "epoch": 0.1},
        {"step": 2, "train_runtime": 9.0, "train_loss": 0.5, "reward": 0.1},
    )
    log = Log(path)
    assert [row.metrics["loss"] for row in log] == [0.5]
    assert (log.skipped, log.remarks()) == (2, [])


def test_mapped_keys_that_never_came_are_known(write: Write) -> None:
    """The reader can say which of the user's names stand nowhere in the log."""
    log = Log(write("run.jsonl", {"step": 1, "a": 0.1}, {"step": 2, "b": 0.1}), {"kl": "b", "loss": "c"})
    assert len(list(log)) == 2
    assert log.unmet == {"c"}
