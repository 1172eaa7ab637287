"""One run examined: score with its parts, verdict, checkpoints, what to do next."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlwatch.cli import main
from rlwatch.offline.doctor.doctor import examine
from rlwatch.offline.doctor.saved import checkpoints_of

Rows = list[dict[str, Any]]


def checkpoint(folder: Path, step: int) -> Path:
    """A checkpoint's folder with real tensors in it."""
    from safetensors.numpy import save_file

    place = folder / f"checkpoint-{step}"
    place.mkdir(parents=True)
    save_file({"a": np.ones(8, np.float32), "b": np.zeros((2, 2))}, place / "model.safetensors", {"format": "pt"})
    return place


def run_of(folder: Path, rows: Rows, *steps: int) -> Path:
    """An output folder: a state, the record of its settings, and checkpoints."""
    for step in steps:
        checkpoint(folder, step)
    folder.mkdir(exist_ok=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 60, "log_history": rows}))
    (folder / "config.yaml").write_text("seed: 3\n")
    return folder


def test_a_healthy_run(tmp_path: Path, healthy: Rows, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, all four parts with their weights, and what would make the record better."""
    run = run_of(tmp_path / "run", healthy, 20, 40)
    assert main(["doctor", str(run)]) == 0
    out = capsys.readouterr().out
    assert re.match(rf"{re.escape(str(run))}: HEALTHY, health \d+ of 100\n", out)
    assert re.search(r"training +100 of 100 +x60 +clean: no alert in 60 rows", out)
    assert re.search(r"checkpoints +100 of 100 +x20 +2 healthy", out)
    assert re.search(r"sight +\d+ of 100 +x10 +\d+ of 2\d detectors had their signals", out)
    assert re.search(r"record +50 of 100 +x10 +versions_not_recorded, commit_not_recorded", out)
    assert "  1. No package versions are recorded with the run: " in out


def test_a_broken_run(tmp_path: Path, broken: Rows, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict is to stop, and the newest checkpoint from before the trouble is named first."""
    run = run_of(tmp_path / "run", broken, 10, 45, 55)
    assert main(["doctor", str(run), "--format", "json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["verdict"] == "stop"
    first, *later = said["checkpoints"]
    assert (first["step"], first["health"]) == (10, "healthy")
    assert {one["health"] for one in later} <= {"poisoned", "suspect"}
    assert said["resume_from"] == str(run / "checkpoint-10")
    assert len(said["todo"]) == 3
    assert said["todo"][0].startswith("Stop the run: ")
    assert said["todo"][1] == "Go back to checkpoint-10 (step 10), the newest healthy checkpoint"
    points = {part["name"]: (part["points"], part["weight"]) for part in said["parts"]}
    assert points["training"] == (10, 60)
    known = [(points, weight) for points, weight in points.values() if points is not None]
    assert said["score"] == round(sum(p * w for p, w in known) / sum(w for _, w in known))


def test_nothing_to_judge_is_no_health(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A log without a known signal has no score, and no checkpoint makes one."""
    run = run_of(tmp_path / "run", [{"step": i, "x": 1.0} for i in range(40)], 20)
    assert main(["doctor", str(run)]) == 3
    out = capsys.readouterr().out
    assert "NOT EVALUATED, no score" in out
    assert "training    not evaluated" in out
    assert "1. Give the detectors something to judge: " in out
    (tmp_path / "empty.jsonl").write_text("")
    assert main(["doctor", str(tmp_path / "empty.jsonl")]) == 3
    assert "1. Give a log that can be read: " in capsys.readouterr().out
    assert main(["doctor", str(tmp_path / "none")]) == 3
    assert "there is no such file or folder" in capsys.readouterr().err


def test_no_checkpoints_do_not_count(tmp_path: Path, healthy: Rows) -> None:
    """A part that is not there is named, and the score is the mean of the others."""
    done = examine(run_of(tmp_path / "run", healthy))
    parts = {part.name: part for part in done.parts}
    assert parts["checkpoints"].points is None
    assert done.score == round((60 * 100 + 10 * (parts["sight"].points or 0) + 10 * 50) / 80)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda place: (place / "model.safetensors").write_bytes(b""), "model.safetensors is empty"),
        (lambda place: _cut(place / "model.safetensors", 5), "is cut off: "),
        (lambda place: _cut(place / "model.safetensors", 60), "is cut off"),
        (lambda place: (place / "model.safetensors").write_bytes(b"\x08" + bytes(7) + b"nonsense"), "damaged header"),
        (lambda place: (place / "model.safetensors").write_bytes(b"\xff" * 20), "cut off or none of safetensors"),
        (lambda place: (place / "model.safetensors").unlink(), "holds no file"),
        (lambda place: _index(place, "model.safetensors", "gone.safetensors"), "1 of 2 files"),
        (lambda place: (place / "x.index.json").write_text("[]"), "x.index.json is damaged"),
    ],
)
def test_a_damaged_checkpoint_is_broken(tmp_path: Path, damage: Any, reason: str) -> None:
    """A cut, empty or missing file is told from the headers alone; nothing is unpickled."""
    place = checkpoint(tmp_path, 10)
    (one,) = checkpoints_of(tmp_path, [])
    assert one.health == "healthy"
    damage(place)
    (one,) = checkpoints_of(tmp_path, [])
    assert one.health == "broken"
    assert reason in one.reason


def _cut(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:-size])


def _index(place: Path, *shards: str) -> None:
    weights = {"weight_map": {f"w{i}": shard for i, shard in enumerate(shards)}}
    (place / "model.safetensors.index.json").write_text(json.dumps(weights))


def test_tags_of_the_training_hold(tmp_path: Path) -> None:
    """What rlwatch said of a checkpoint while it trained goes before what the log lets guess."""
    checkpoint(tmp_path, 10)
    tags = {"checkpoint-10": {"step": 10, "health": "poisoned", "reason": "kl_explosion at step 9"}}
    (tmp_path / "rlwatch_health.json").write_text(json.dumps({"format": 1, "checkpoints": tags}))
    (one,) = checkpoints_of(tmp_path, [])
    assert (one.health, one.reason) == ("poisoned", "kl_explosion at step 9")
