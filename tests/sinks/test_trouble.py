"""Disks that refuse, hang or vanish: one warning, no exception, no step lost to the loop."""

from __future__ import annotations

import gc
import json
import logging
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlwatch.alert import Alert, Verdict
from rlwatch.observation import Observation
from rlwatch.sinks import RunDirSink
from rlwatch.sinks.files import AppendFile
from rlwatch.sinks.run_dir import KEEP_ARRAYS, KEEP_TEXTS
from rlwatch.sinks.writer import RESERVE, BackgroundWriter, Trouble

Step = Callable[..., Observation]
MakeAlert = Callable[..., Alert]


def run_through(sink: RunDirSink, make_step: Step, make_alert: MakeAlert, steps: int = 30) -> None:
    """A short run with an alert, as the watch tells it."""
    sink.start({"preset": "grpo"})
    for step in range(steps):
        sink.step(make_step(step, kl=0.1), Verdict(step))
    sink.alert(make_alert(steps - 1))
    sink.close({"rows": steps})


@pytest.fixture
def said() -> list[str]:
    """Collects what the sink complains of."""
    return []


@pytest.mark.parametrize("place", ["a file", "/proc/nowhere", "below a file"])
def test_a_folder_that_cannot_be_made(
    tmp_path: Path, make_step: Step, make_alert: MakeAlert, said: list[str], place: str
) -> None:
    """The run is told once why it is not recorded, and what was lost is counted."""
    (tmp_path / "file").write_text("")
    runs = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "runs"}.get(place, Path(place))
    sink = RunDirSink(runs, on_trouble=said.append)
    run_through(sink, make_step, make_alert)
    assert len(said) == 1
    assert "cannot write the run's record" in said[0]
    assert "training goes on" in said[0]
    assert sink.stats()["steps"] == 0
    assert sink.stats()["dropped"] == 31


def test_a_folder_that_can_be_made_later(
    tmp_path: Path, make_step: Step, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share that was not mounted yet is tried again."""
    monkeypatch.setattr("rlwatch.sinks.recorder.RETRY", 0.0)
    (tmp_path / "runs").write_text("")
    sink = RunDirSink(tmp_path / "runs", "run", on_trouble=said.append)
    (tmp_path / "runs").unlink()
    sink.step(make_step(0), Verdict(0))
    sink.close({"rows": 1})
    run = json.loads((tmp_path / "runs" / "run" / "run.json").read_bytes())
    assert run["recording"] == {"steps": 1, "alerts": 0, "dropped": 0, "trouble": sink.stats()["trouble"]}
    assert len(said) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk(tmp_path: Path, make_step: Step, make_alert: MakeAlert, said: list[str]) -> None:
    """Rows are lost and counted; the other files are written."""
    sink = RunDirSink(tmp_path, on_trouble=said.append)
    (sink.path / "steps.jsonl").symlink_to("/dev/full")
    run_through(sink, make_step, make_alert)
    assert len(said) == 1
    assert "No space left" in said[0]
    assert (sink.stats()["steps"], sink.stats()["alerts"], sink.stats()["dropped"]) == (0, 1, 30)


def test_a_folder_deleted_under_it(
    tmp_path: Path, make_step: Step, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows written before are the user's to delete; later ones are counted, and the folder stays gone."""
    monkeypatch.setattr("rlwatch.sinks.files.LOOK", 0.0)
    sink = RunDirSink(tmp_path, on_trouble=said.append)
    sink.step(make_step(0), Verdict(0))
    deadline = time.monotonic() + 5
    while not sink.stats()["steps"] and time.monotonic() < deadline:
        time.sleep(0.01)
    shutil.rmtree(sink.path)
    for step in range(1, 6):
        sink.step(make_step(step), Verdict(step))
    sink.close({})
    assert len(said) == 1
    assert (sink.stats()["steps"], sink.stats()["dropped"]) == (1, 5)
    assert not sink.path.exists()


def test_a_dead_thread(tmp_path: Path, make_step: Step, make_alert: MakeAlert, said: list[str]) -> None:
    """A thread that dies takes the record with it, not the run."""
    sink = RunDirSink(tmp_path, on_trouble=said.append)

    def die() -> None:
        raise SystemExit

    sink._writer.put((die, ()), urgent=True)
    sink._writer._thread.join(5)
    run_through(sink, make_step, make_alert)
    assert len(said) == 1
    assert "died" in said[0]
    assert sink.stats()["dropped"] >= 31


def test_no_thread_to_be_had(
    tmp_path: Path, make_step: Step, make_alert: MakeAlert, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process at its limit of threads trains on, unrecorded."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    sink = RunDirSink(tmp_path, on_trouble=said.append)
    run_through(sink, make_step, make_alert)
    assert len(said) == 1
    assert "can't start new thread" in said[0]


def test_one_bad_record_costs_one_record(
    tmp_path: Path, make_step: Step, said: list[str], read_lines: Callable[[Path], Any]
) -> None:
    """A row that cannot be summarised is dropped; those around it are written."""
    sink = RunDirSink(tmp_path, on_trouble=said.append)
    for step in range(3):
        samples = {"rewards": "no array"} if step == 1 else {}
        sink.step(make_step(step, samples), Verdict(step))
    sink.close({})
    assert [line["step"] for line in read_lines(sink.path / "steps.jsonl")] == [0, 2]
    assert len(said) == 1
    assert sink.stats()["dropped"] == 1


def test_a_complaint_that_fails_is_swallowed(tmp_path: Path, make_step: Step, make_alert: MakeAlert) -> None:
    """Even the warning must not raise."""

    def refuse(text: str) -> None:
        raise RuntimeError(text)

    (tmp_path / "file").write_text("")
    sink = RunDirSink(tmp_path / "file", on_trouble=refuse)
    run_through(sink, make_step, make_alert)
    assert "cannot write" in sink.stats()["trouble"]


def test_by_default_the_warning_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a callback the logger "rlwatch" says it."""
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "rlwatch"):
        RunDirSink(tmp_path / "file").close({})
    assert [record.getMessage()[:23] for record in caplog.records] == ["rlwatch: cannot write t"]


@pytest.fixture
def hung_sink(
    tmp_path: Path, make_step: Step, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunDirSink]:
    """A sink with a limit of 2,000 rows, whose disk took a write and does not come back."""
    entered, release = threading.Event(), threading.Event()

    def hang(self: AppendFile, data: bytes) -> None:
        entered.set()
        release.wait(30)

    monkeypatch.setattr(AppendFile, "append", hang)
    monkeypatch.setattr("rlwatch.sinks.run_dir.CLOSE_WAIT", 0.2)
    sink = RunDirSink(tmp_path, on_trouble=said.append, limit=2000)
    sink.step(make_step(0), Verdict(0))
    assert entered.wait(5)
    yield sink
    release.set()
    sink._writer.request_stop()
    sink._writer._thread.join(5)


class _Texts(list[str]):
    """A list that can be watched for being let go."""


def test_memory_is_bounded_while_the_disk_hangs(hung_sink: RunDirSink, make_step: Step, said: list[str]) -> None:
    """Rows beyond the limit are dropped, texts and arrays long before; `close` does not wait for ever."""
    arrays, texts = [], []
    for step in range(5000):
        samples = {"rewards": np.zeros(8), "completions": _Texts(["a"])}
        arrays.append(weakref.ref(samples["rewards"]))
        texts.append(weakref.ref(samples["completions"]))
        hung_sink.step(make_step(step, samples), Verdict(step))
    del samples
    gc.collect()
    assert len(hung_sink._writer) == 2000
    assert hung_sink.stats()["dropped"] == 3000
    assert sum(ref() is not None for ref in texts) == KEEP_TEXTS
    assert sum(ref() is not None for ref in arrays) == KEEP_ARRAYS
    started = time.monotonic()
    hung_sink.close({})
    assert time.monotonic() - started < 2
    assert len(said) == 1
    assert "2000 rows behind the loop" in said[0]


def test_alerts_have_places_of_their_own(hung_sink: RunDirSink, make_step: Step, make_alert: MakeAlert) -> None:
    """A queue that is full of steps still takes alerts, up to a limit of its own."""
    for step in range(3000):
        hung_sink.step(make_step(step), Verdict(step))
    for step in range(RESERVE + 100):
        hung_sink.alert(make_alert(step))
    assert len(hung_sink._writer) == 2000 + RESERVE


def test_the_training_thread_neither_encodes_nor_writes(
    tmp_path: Path, make_step: Step, make_alert: MakeAlert, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the record's work is done on the writer's thread."""
    threads: set[str] = set()
    for target in ("rlwatch.sinks.recorder.encode_line", "rlwatch.sinks.recorder.make_run_folder"):
        module, _, name = target.rpartition(".")
        original = getattr(__import__(module, fromlist=[name]), name)

        def spy(*args: Any, _original: Callable[..., Any] = original, **kwargs: Any) -> Any:
            threads.add(threading.current_thread().name)
            return _original(*args, **kwargs)

        monkeypatch.setattr(target, spy)
    run_through(RunDirSink(tmp_path), make_step, make_alert)
    assert threads == {"rlwatch-writer"}


def test_a_writer_stops_from_its_own_thread() -> None:
    """A complaint that leads to `close` on the writer's thread does not wait for itself."""
    writer = BackgroundWriter(Trouble(lambda text: None))
    done: list[bool] = []
    writer.start(lambda: None)
    writer.put((lambda: done.append(writer.stop(5)), ()), urgent=True)
    writer._thread.join(5)
    assert done == [False]
    assert not writer._thread.is_alive()
