"""What is left when the process dies, in each of the ways that processes die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Lines = Callable[[Path], list[dict[str, Any]]]

ROOT = Path(__file__).parents[2]
PROLOGUE = """
import os, sys, time
from rlwatch.alert import Alert, Severity, Verdict
from rlwatch.observation import Observation
from rlwatch.sinks import RunDirSink

sink = RunDirSink(sys.argv[1], "run")
sink.start({"preset": "grpo"})

def tell(step):
    observation = Observation(step, step)
    observation.signals.update({f"signal_{i}": step + i / 7 for i in range(20)})
    sink.step(observation, Verdict(step))
"""


def spawn(runs: Path, body: str) -> subprocess.Popen[str]:
    """A process that records into `runs/run`."""
    command = [sys.executable, "-c", PROLOGUE + textwrap.dedent(body), str(runs)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


def finish(runs: Path, body: str) -> tuple[int, str]:
    """Its exit code and what it said."""
    process = spawn(runs, body)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_whole_lines_after_kill_nine(tmp_path: Path, read_lines: Lines) -> None:
    """SIGKILL in the middle of a busy run leaves lines that parse, and no half-written file beside them."""
    process = spawn(tmp_path, "for step in range(10**9):\n    tell(step); time.sleep(1e-4)")
    steps = tmp_path / "run" / "steps.jsonl"
    deadline = time.monotonic() + 30
    while not (steps.exists() and steps.stat().st_size > 200_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    recorded = [line["step"] for line in read_lines(steps)]
    assert len(recorded) > 100
    assert recorded == list(range(len(recorded)))


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("raise RuntimeError('the training loop failed')", 1),
        ("sys.exit(3)", 3),
        ("pass", 0),
        ("import _thread; _thread.interrupt_main(); time.sleep(5)", -signal.SIGINT),
    ],
)
def test_every_row_is_there_after_an_exit(tmp_path: Path, read_lines: Lines, ending: str, code: int) -> None:
    """An uncaught exception, sys.exit, Ctrl-C or the end of the script flush what waits, without `close`."""
    returned, err = finish(tmp_path, f"for step in range(500):\n    tell(step)\n{ending}")
    assert returned == code, err
    assert [line["step"] for line in read_lines(tmp_path / "run" / "steps.jsonl")] == list(range(500))


def test_an_abrupt_exit_loses_the_last_moment_only(tmp_path: Path, read_lines: Lines) -> None:
    """os._exit runs no handler: rows older than the interval are there, in whole lines."""
    body = """
    for step in range(100):
        tell(step)
    time.sleep(1.5)
    for step in range(100, 110):
        tell(step)
    os._exit(0)
    """
    finish(tmp_path, body)
    recorded = [line["step"] for line in read_lines(tmp_path / "run" / "steps.jsonl")]
    assert recorded[:100] == list(range(100))


def test_an_alert_is_on_disk_at_once(tmp_path: Path, read_lines: Lines) -> None:
    """An alert does not wait for the interval: it survives os._exit a moment later."""
    body = """
    time.sleep(0.3)
    sink.alert(Alert("kl_explosion", Severity.CRITICAL, 7, "KL divergence = 1"))
    deadline = time.monotonic() + 0.15
    while not os.path.exists(sink.path / "alerts.jsonl") and time.monotonic() < deadline:
        time.sleep(0.005)
    os._exit(0)
    """
    finish(tmp_path, body)
    assert [alert["step"] for alert in read_lines(tmp_path / "run" / "alerts.jsonl")] == [7]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_writes_nothing(tmp_path: Path, read_lines: Lines) -> None:
    """A child's steps, alerts, close and exit leave the record alone; the parent goes on."""
    body = """
    tell(0)
    pid = os.fork()
    if pid == 0:
        for step in range(100, 105):
            tell(step)
        sink.alert(Alert("kl_explosion", Severity.CRITICAL, 104, "KL divergence = 1"))
        sink.close({"rows": 99})
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    tell(1)
    sink.close({"rows": 2})
    """
    code, err = finish(tmp_path, body)
    assert code == 0, err
    assert [line["step"] for line in read_lines(tmp_path / "run" / "steps.jsonl")] == [0, 1]
    assert not (tmp_path / "run" / "alerts.jsonl").exists()
    assert b'"rows": 2' in (tmp_path / "run" / "run.json").read_bytes()
    assert err.count("fork of the process") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="uses a file size limit")
def test_a_disk_that_fills_half_way_leaves_whole_lines(tmp_path: Path, read_lines: Lines) -> None:
    """A write that is cut short is taken back, one warning is said, and the run goes on to its end."""
    body = """
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    for step in range(300):
        tell(step)
        time.sleep(0.005)
    sink.close({})
    print(sink.stats(), file=sys.stderr)
    """
    code, err = finish(tmp_path, body)
    assert code == 0, err
    recorded = read_lines(tmp_path / "run" / "steps.jsonl")
    assert 0 < len(recorded) < 300
    assert err.count("cannot write the run's record") == 2  # the warning, and the stats that quote it
    assert f"'dropped': {300 - len(recorded)}" in err


def test_two_processes_of_the_same_moment(tmp_path: Path) -> None:
    """Processes that start together get folders of their own."""
    body = [sys.executable, "-c", PROLOGUE.replace(', "run")', ")") + "tell(0)\nsink.close({})", str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen(body, env=env) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.glob("*/steps.jsonl"))) == 3
