"""The formats that a log may have, files and folders."""

from __future__ import annotations

import gzip
import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlwatch.offline.ingest import locate, read

Write = Callable[..., Path]


HISTORY = [
    {"step": 1, "loss": 0.5, "epoch": 0.1},
    {"step": 2, "loss": math.nan},
    {"step": 2, "eval_loss": 0.3},
]


@pytest.mark.parametrize("indent", [None, 2])
def test_trainer_state_is_read_in_any_layout(tmp_path: Path, indent: int | None) -> None:
    """Hugging Face indents its state; a tool in between may not."""
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"best_metric": None, "global_step": 2, "log_history": HISTORY}, indent=indent))
    rows = list(read(path))
    assert [row.step for row in rows] == [1, 2]
    assert math.isnan(rows[1].metrics["loss"])


@pytest.mark.parametrize("indent", [None, 2])
def test_json_lists_and_objects_in_a_row_are_read(tmp_path: Path, indent: int | None) -> None:
    """A list of dicts, and what `jq .` makes of JSON lines, are the same rows."""
    array, stream = tmp_path / "list.json", tmp_path / "jq.json"
    array.write_text(json.dumps(HISTORY, indent=indent))
    stream.write_text("\n".join(json.dumps(row, indent=indent) for row in HISTORY))
    assert [row.step for row in read(array)] == [row.step for row in read(stream)] == [1, 2]


def test_lists_on_several_lines_are_all_read(tmp_path: Path) -> None:
    """A logger that flushes a list of dicts at a time loses none of them."""
    path = tmp_path / "flushed.jsonl"
    path.write_text('[{"step": 1, "kl": 0.1}, {"step": 2, "kl": 0.2}]\n[{"step": 3, "kl": 0.3}]\n')
    assert [row.step for row in read(path)] == [1, 2, 3]


def state(folder: Path, step: int, *history: dict[str, Any]) -> None:
    """A trainer_state.json as the Trainer writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"global_step": step, "log_history": list(history)}
    (folder / "trainer_state.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def test_the_newest_checkpoint_of_an_output_folder_is_read(tmp_path: Path) -> None:
    """The highest step holds the whole history; numbers are compared as numbers."""
    for step in (9, 100, 20):
        state(tmp_path / f"checkpoint-{step}", step, {"step": step, "loss": 0.1})
    assert locate(tmp_path) == tmp_path / "checkpoint-100" / "trainer_state.json"
    assert locate(tmp_path / "checkpoint-9") == tmp_path / "checkpoint-9" / "trainer_state.json"
    state(tmp_path, 120, {"step": 120, "loss": 0.1})
    assert [row.step for row in read(tmp_path)] == [120]
    state(tmp_path, 50, {"step": 50, "loss": 0.1})
    assert [row.step for row in read(tmp_path)] == [100]


def test_a_run_folder_is_read_from_its_record(tmp_path: Path, write: Write) -> None:
    """What rlwatch records can be replayed; unknown metrics come back under their own names."""
    record = {"step": 4, "row": 0, "time": 1.5, "kl": 0.2, "loss": "NaN", "extra": {"my/metric": 3.0}}
    write("run/steps.jsonl", record)
    (row,) = read(tmp_path / "run")
    assert row.step == 4
    assert (row.metrics["kl"], row.metrics["my/metric"]) == (0.2, 3.0)
    assert math.isnan(row.metrics["loss"])


def test_gzip_is_known_by_its_content(tmp_path: Path, write: Write) -> None:
    """A gzip log needs no .gz suffix, and a plain log may carry one."""
    plain = write("run.jsonl", {"step": 1, "kl": 0.5})
    packed = tmp_path / "packed.jsonl"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    named = tmp_path / "plain.gz"
    named.write_bytes(plain.read_bytes())
    assert list(read(packed)) == list(read(named)) == list(read(plain))


def test_verl_file_logger_keeps_its_metrics_under_data(write: Write) -> None:
    """The step of the line holds, whatever `data` says about steps."""
    path = write("verl.jsonl", {"step": 9, "data": {"actor/entropy": 0.4, "step": 1}})
    assert list(read(path)) == [(9, {"actor/entropy": 0.4})]


def test_nested_dicts_are_flattened(write: Write) -> None:
    """RLlib nests its results; the path becomes the key."""
    raw = {"training_iteration": 4, "learners": {"default_policy": {"entropy": 0.3, "deep": {"x": 1}}}}
    (row,) = read(write("result.json", raw))
    assert row == (4, {"learners/default_policy/entropy": 0.3, "learners/default_policy/deep/x": 1.0})


def test_a_long_log_is_read_in_constant_memory(tmp_path: Path) -> None:
    """50,000 rows cost no more memory than a few."""
    path = tmp_path / "long.jsonl"
    with path.open("w") as file:
        file.writelines(f'{{"step": {i}, "kl": {i * 1e-6}, "loss": 0.5}}\n' for i in range(50_000))
    next(read(path))
    tracemalloc.start()
    try:
        assert sum(1 for _ in read(path)) == 50_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 500_000
