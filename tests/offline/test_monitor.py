"""A run that goes on, judged from its log: real processes, real files, no timed assertion."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlwatch.cli import main
from rlwatch.offline.actions import ActionError, Actions, Process

Rows = list[dict[str, Any]]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `rlwatch monitor` and ends what is left of it."""
    started: list[subprocess.Popen[str]] = []

    def starter(*args: str | Path, stdin: Any = None) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "rlwatch", "monitor", *map(str, args)]
        process = subprocess.Popen(
            line, cwd=tmp_path, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield starter
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def trainee() -> Iterator[subprocess.Popen[bytes]]:
    """A process that a monitor may stop."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield process
    process.kill()
    process.wait()


def until(true: Callable[[], Any]) -> None:
    """Waits for something to become true; the test's own time limit ends it."""
    while not true():
        time.sleep(0.02)


def append(path: Path, rows: Rows) -> None:
    """Adds rows as JSON lines, as a logger does."""
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def told(path: Path) -> list[dict[str, Any]]:
    """The alerts in a file of them."""
    with contextlib.suppress(FileNotFoundError):
        return [json.loads(line) for line in path.read_text().splitlines()]
    return []


@pytest.mark.timeout(120)
def test_a_critical_stops_the_process(
    start: Start, trainee: subprocess.Popen[bytes], tmp_path: Path, broken: Rows
) -> None:
    """The log is not there at first; the row with the NaN stops the run, with which the monitor ends."""
    log, alerts, flag = tmp_path / "run.jsonl", tmp_path / "alerts.jsonl", tmp_path / "flag"
    process = start(
        log, "--on-critical", f"stop {trainee.pid}", "--on-critical", f"touch {flag}", "--alerts", alerts,
        "--on-critical", f"run (cat; echo) >> {tmp_path}/got; echo $ALERT_STEP $ALERT_DETECTOR >> {tmp_path}/env",
    )  # fmt: skip
    assert process.stderr is not None
    assert "waiting for a log" in process.stderr.readline()
    append(log, broken[:20])
    time.sleep(0.3)
    assert trainee.poll() is None
    append(log, broken[20:])
    assert trainee.wait(timeout=60) == -signal.SIGTERM
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    critical = next(alert for alert in told(alerts) if alert["severity"] == "critical")
    assert json.loads(flag.read_text().splitlines()[0]) == critical
    got = [json.loads(line) for line in (tmp_path / "got").read_text().splitlines() if line]
    assert {one["detector"] for one in got} <= {alert["detector"] for alert in told(alerts)}
    assert critical["detector"] in {one["detector"] for one in got}
    assert f"{critical['step']} {critical['detector']}" in (tmp_path / "env").read_text()
    assert f"process {trainee.pid} was asked to stop (SIGTERM)" in err
    assert "loss_nonfinite" in out
    assert "Broke first: policy update" in out


@pytest.mark.timeout(120)
def test_what_was_there_before_does_nothing(
    start: Start, trainee: subprocess.Popen[bytes], tmp_path: Path, broken: Rows
) -> None:
    """A critical of the past is told, but does not stop what runs now; with --past it does."""
    log = tmp_path / "run.jsonl"
    append(log, broken)
    process = start(log, "--on-critical", f"stop {trainee.pid}", "--idle", "1")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "CRITICAL  loss_nonfinite" in out
    assert "was there before the start: nothing is done (--past acts)" in err
    assert trainee.poll() is None
    process = start(log, "--on-critical", f"stop {trainee.pid}", "--past")
    assert trainee.wait(timeout=60) == -signal.SIGTERM
    process.communicate(timeout=60)
    assert process.returncode == 2


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["rename", "truncate"])
def test_rotation_and_truncation_are_followed(start: Start, tmp_path: Path, broken: Rows, how: str) -> None:
    """The second half of the run stands in a new file, or in the same one cut to nothing."""
    log, alerts = tmp_path / "run.jsonl", tmp_path / "alerts.jsonl"
    process = start(log, "--alerts", alerts)
    append(log, [{**row, "loss": float("nan")} for row in broken[:1]])
    until(lambda: told(alerts))
    append(log, broken[1:25])
    if how == "rename":
        log.rename(tmp_path / "run.jsonl.1")
    else:
        os.truncate(log, 0)
        assert process.stderr is not None
        until(lambda: "replaced or cut" in process.stderr.readline())
    append(log, broken[25:])
    until(lambda: any(alert["step"] == 51 for alert in told(alerts)))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert how == "truncate" or "was replaced or cut: its new content is read from the start" in err
    assert {alert["detector"] for alert in told(alerts)} >= {"loss_nonfinite"}
    if how == "rename":
        assert "kl_explosion" in {alert["detector"] for alert in told(alerts)}


@pytest.mark.timeout(120)
def test_a_pipe_ends_the_run(start: Start, healthy: Rows) -> None:
    """Console lines on stdin, and its end is the run's."""
    process = start("-", stdin=subprocess.PIPE)
    out, err = process.communicate("banner\n" + "".join(f"{row}\n" for row in healthy), timeout=60)
    assert (process.returncode, out) == (0, "")
    assert err.endswith("rlwatch: -: ended after 60 rows: clean\n")
    assert "detectors have their signals; without: " in err


@pytest.mark.timeout(120)
def test_nothing_to_judge_is_no_pass(start: Start, tmp_path: Path) -> None:
    """A log without a known signal, or without a row, ends with 3."""
    process = start("-", stdin=subprocess.PIPE)
    _, err = process.communicate('{"step": 1, "x": 1}\n{"step": 2, "x": 1}\n', timeout=60)
    assert process.returncode == 3
    assert "not evaluated: its 2 rows hold too little for any detector" in err
    process = start("-", stdin=subprocess.PIPE)
    _, err = process.communicate("nothing\n", timeout=60)
    assert process.returncode == 3
    assert "no line of it is a JSON object" in err


@pytest.mark.timeout(120)
def test_a_trainers_summary_ends_the_run(start: Start, tmp_path: Path, healthy: Rows) -> None:
    """After the closing row of a Hugging Face Trainer nothing more is waited for."""
    append(tmp_path / "run.jsonl", [*healthy, {"step": 60, "train_runtime": 9.0, "train_loss": 0.1}])
    process = start(tmp_path / "run.jsonl")
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.timeout(120)
def test_event_files_are_followed_from_one_to_the_next(start: Start, tmp_path: Path, broken: Rows) -> None:
    """TensorBoard's writer begins a new file at a restart; the folder is one run."""
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    alerts = tmp_path / "alerts.jsonl"
    process = start(tmp_path / "tb", "--alerts", alerts)
    for part in (broken[:40], broken[40:]):
        with SummaryWriter(str(tmp_path / "tb"), filename_suffix=f".{part[0]['step']:03d}") as writer:
            for row in part:
                for key, value in row.items():
                    if key != "step":
                        writer.add_scalar(f"train/{key}", value, row["step"])
        until(lambda step=part[-1]["step"]: [a for a in told(alerts) if a["step"] > step - 20])
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert 51 in {alert["step"] for alert in told(alerts)}
    assert "Traceback" not in err


@pytest.mark.timeout(120)
def test_a_trainer_state_is_read_again_at_each_checkpoint(start: Start, tmp_path: Path, broken: Rows) -> None:
    """An output folder gets its state anew with every checkpoint: only what is new in it is judged."""
    alerts = tmp_path / "alerts.jsonl"
    process = start(tmp_path / "out", "--alerts", alerts)
    for step in (20, 60):
        folder = tmp_path / "out" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "partial").write_text(json.dumps({"global_step": step, "log_history": broken[:step]}))
        (folder / "partial").rename(folder / "trainer_state.json")
    until(lambda: any(alert["step"] == 51 for alert in told(alerts)))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 2
    assert [alert["step"] for alert in told(alerts)] == sorted(alert["step"] for alert in told(alerts))


@pytest.mark.timeout(120)
def test_a_run_folder_of_mlflow_is_read_again(start: Start, tmp_path: Path, broken: Rows) -> None:
    """Its files are appended to; the folder itself does not change."""
    alerts, run = tmp_path / "alerts.jsonl", tmp_path / "run"
    (run / "metrics").mkdir(parents=True)
    (run / "meta.yaml").write_text("")
    process = start(run, "--alerts", alerts)
    for part in (broken[:20], broken[20:]):
        for key in part[0].keys() - {"step"}:
            with (run / "metrics" / key).open("a") as file:
                file.writelines(f"{1000 * row['step']} {row[key]} {row['step']}\n" for row in part)
        time.sleep(1)
    until(lambda: any(alert["step"] == 51 for alert in told(alerts)))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 2


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], "name one source"),
        (["x", "--on-critical", "halt"], "is none of 'stop PID', 'touch FILE', 'run COMMAND'"),
        (["x", "--on-critical", "stop me"], "is none of"),
        (["x", "--on-critical", "stop 1"], "there is no process 1 that could be stopped"),
        (["x", "--pid", "99999999"], "there is no process 99999999"),
        (["x", "--alerts", "/no/such/folder/a.jsonl"], "cannot be written"),
        (["x", "--rule", "kl >"], "rule"),
        (["x", "--map", "kll=a"], "did you mean"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    capsys: pytest.CaptureFixture[str], args: list[str], sentence: str
) -> None:
    """Everything that can be wrong is told at the start, with exit code 64."""
    assert main(["monitor", *args]) == 64
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.timeout(120)
def test_what_cannot_be_followed_is_an_error(start: Start, tmp_path: Path) -> None:
    """A packed log, and a folder of several, end with 3 and the way out."""
    (tmp_path / "run.gz").write_bytes(b"\x1f\x8b" + b"\0\n" * 50)
    process = start(tmp_path / "run.gz")
    assert "`rlwatch scan` reads it" in process.communicate(timeout=60)[1]
    assert process.returncode == 3
    (tmp_path / "sweep").mkdir()
    for name in "ab":
        append(tmp_path / "sweep" / f"{name}.jsonl", [{"step": 1}])
    process = start(tmp_path / "sweep")
    assert "a folder of several logs" in process.communicate(timeout=60)[1]
    assert process.returncode == 3


def test_a_process_is_not_taken_for_a_later_one() -> None:
    """What has ended is not alive, also while its parent has not taken notice."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = Process(child.pid)
    until(lambda: not process.alive)
    assert process.stop() == f"process {child.pid} had ended already"
    child.wait()
    with pytest.raises(ActionError):
        Actions([f"stop {child.pid}"])


def test_people_are_told(tmp_path: Path, start: Start) -> None:
    """--notify tells of what happens while it watches, not of what was there before, and of the end."""
    pytest.importorskip("apprise")
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["message"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"json://127.0.0.1:{server.server_address[1]}/s3cret"
    monitor = start("-", "--notify", url, "--past", stdin=subprocess.PIPE)
    assert monitor.stdin is not None
    for step in range(30):
        print(json.dumps({"step": step, "loss": "NaN" if step == 29 else 0.1}), file=monitor.stdin, flush=True)
    out, err = monitor.communicate(timeout=60)
    assert monitor.returncode == 2, err
    assert "s3cret" not in out + err
    end = time.monotonic() + 60
    while not any("The run ended" in text for text in told):
        assert time.monotonic() < end
        time.sleep(0.02)
    server.shutdown()
    server.server_close()
    assert "Loss is non-finite" in "".join(told)
