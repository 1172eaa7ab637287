"""`rlwatch watch`: in a pipe, on a terminal, in a narrow and in a dumb one."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlwatch import Watch
from rlwatch.terminal.record import RunRecord
from rlwatch.terminal.states import states

Record = Callable[..., Path]

CONTROL = {chr(code) for code in range(32)} - {"\n"}


def command(*args: str | Path) -> list[str]:
    """The command line as `python -m rlwatch`."""
    return [sys.executable, "-m", "rlwatch", *map(str, args)]


def piped(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs it with its output in a pipe."""
    return subprocess.run(
        command("watch", *args), env={**os.environ, **env}, capture_output=True, text=True, timeout=60
    )


@contextlib.contextmanager
def on_terminal(*args: str | Path, size: tuple[int, int] = (24, 80), **env: str) -> Iterator[tuple[object, int]]:
    """Runs it on a pseudo-terminal of rows x columns; gives the process and the terminal."""
    terminal, end = os.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    whole = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
    whole |= {"TERM": "xterm-256color", "PYTHONUTF8": "1", **env}
    with subprocess.Popen(command("watch", *args), stdout=end, stderr=end, stdin=end, env=whole) as process:
        os.close(end)
        try:
            yield process, terminal
        finally:
            if process.poll() is None:
                process.kill()
            os.close(terminal)


def read(terminal: int, until: bytes = b"", seconds: float = 30.0) -> str:
    """What came to the terminal, up to a text or the end."""
    import select

    text, over = b"", time.monotonic() + seconds
    with contextlib.suppress(OSError):  # Linux ends a terminal with an error
        while time.monotonic() < over and not (until and until in text):
            if select.select([terminal], [], [], 0.2)[0]:
                if not (part := os.read(terminal, 65536)):
                    break
                text += part
    return text.decode("utf-8", "replace")


@pytest.mark.parametrize(("nan_at", "code", "verdict"), [(None, 0, "CLEAN"), (30, 2, "CRITICAL")])
def test_a_pipe_gets_plain_lines(record: Record, nan_at: int | None, code: int, verdict: str) -> None:
    """The picture of a run that has ended, no control character in it, the exit code of the verdict."""
    done = piped(record(nan_at=nan_at))
    assert (done.returncode, done.stderr) == (code, "")
    assert f"verdict  {verdict}" in done.stdout
    assert not CONTROL & set(done.stdout)
    assert ("step 30 CRITICAL loss_nonfinite: " in done.stdout) == (nan_at is not None)
    assert "starved proxy_divergence: no gold_score" in done.stdout


def test_sixty_columns_are_enough(record: Record) -> None:
    """No line of the picture is longer than a narrow terminal, in ASCII where the encoding has no more."""
    done = piped(record(nan_at=30), COLUMNS="60", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.stdout.isascii()
    assert "\\u" not in done.stdout
    upto = done.stdout[: done.stdout.index("starved ")].splitlines()
    assert max(map(len, upto)) <= 60
    assert "X loss_nonfinite" in done.stdout


def test_the_newest_run_of_a_folder_is_meant(record: Record) -> None:
    """A folder of runs stands for the one that changed last."""
    old, new = record("old"), record("new")
    os.utime(old / "run.json", (1, 1))
    for file in old.iterdir():
        os.utime(file, (1, 1))
    shown = json.loads(piped(new.parent, "--format", "json").stdout)
    assert shown["run"] == str(new)
    assert (shown["verdict"], shown["life"], shown["step"], shown["rows"]) == ("clean", "ended", 39, 40)
    assert shown["detectors"]["loss_nonfinite"]["state"] == "armed"


def test_a_run_is_followed_to_its_end(tmp_path: Path) -> None:
    """In a pipe: the picture at first, a line for each alert as it comes, the verdict when the run ends."""
    watch = Watch(console=False, stall=False, runs_dir=tmp_path, run_id="live")
    watch.log(step=0, loss=0.5)
    with subprocess.Popen(
        command("watch", tmp_path / "live", "--every", "0.1"), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("detectors"):
            assert process.poll() is None
        watch.log(step=1, loss=float("nan"))
        while "CRITICAL loss_nonfinite" not in (line := process.stdout.readline()):
            assert process.poll() is None
        assert line.startswith("step 1 ")
        watch.close()
        rest = process.stdout.read()
        assert process.wait(30) == 2
    assert "live  ended" in rest
    assert "verdict  CRITICAL (1 critical)" in rest


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_terminal_is_drawn_on_and_given_back(record: Record, how: signal.Signals, code: int) -> None:
    """The alternate screen while the run lives; Ctrl-C and `kill` leave it and show the cursor; 130 and 143."""
    folder = record(nan_at=30, close=False)
    with on_terminal(folder, "--every", "0.1") as (process, terminal):
        first = read(terminal, until=b"loss_nonfinite: ")
        assert "\x1b[?1049h" in first
        assert "\x1b[?25l" in first
        assert "running" in first
        process.send_signal(how)
        rest = read(terminal)
        assert process.wait(30) == code
    assert "\x1b[?1049l" in rest
    assert "\x1b[?25h" in rest
    assert "Traceback" not in first + rest


def test_no_colour_where_none_is_wanted(record: Record) -> None:
    """With NO_COLOR no colour is set; a dumb terminal gets no control code at all."""
    import re

    folder = record(nan_at=30)
    with on_terminal(folder, NO_COLOR="1") as (process, terminal):
        text = read(terminal)
        assert process.wait(30) == 2
    assert not re.search(r"\x1b\[[\d;]*(3[0-7]|4[0-7]|9[0-7])[\d;]*m", text)
    with on_terminal(folder, TERM="dumb") as (process, terminal):
        text = read(terminal)
        assert process.wait(30) == 2
    assert "\x1b" not in text
    assert "verdict  CRITICAL" in text


@pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux")
def test_in_tmux(record: Record, tmp_path: Path) -> None:
    """A real terminal in between: the picture stands on its screen, and goes on to the end of the run."""
    folder = record(nan_at=30, close=False)
    socket = str(tmp_path / "socket")
    tmux = ["tmux", "-f", "/dev/null", "-S", socket]
    line = " ".join(map(shlex.quote, command("watch", folder, "--every", "0.2")))
    env = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
    subprocess.run(
        [*tmux, "new-session", "-d", "-x", "80", "-y", "24", f"{line}; echo code $?; sleep 60"], env=env, check=True
    )

    def screen(until: str) -> str:
        over = time.monotonic() + 30
        text = ""
        while until not in text and time.monotonic() < over:
            time.sleep(0.1)
            shown = subprocess.run([*tmux, "capture-pane", "-p"], env=env, capture_output=True, text=True, check=True)
            text = shown.stdout
        return text

    try:
        live = screen("loss_nonfinite: ").splitlines()
        assert live[0].split() == ["rlwatch", "run", "running"]
        assert any("✖ loss_nonfinite" in line for line in live)
        assert len(live) <= 24
        info = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**info, "summary": {"seconds": 1.0}}))
        assert "code 2" in screen("code 2")
    finally:
        subprocess.run([*tmux, "kill-server"], env=env, check=False)


@pytest.mark.parametrize("size", [(24, 80), (14, 60), (50, 200), (13, 40)])
def test_the_picture_fits_the_terminal(record: Record, size: tuple[int, int]) -> None:
    """The live picture is no higher than the screen; what is in alarm is on it even where only that has room."""
    from rich.console import Console

    from rlwatch.terminal.glyphs import UNICODE
    from rlwatch.terminal.view import Space, picture

    run = RunRecord(record(nan_at=30))
    run.refresh()
    rows, columns = size
    console = Console(width=max(40, columns), height=rows, force_terminal=False, file=io.StringIO())
    lines = console.render_lines(picture(run, Space(max(40, columns), rows, UNICODE)), pad=False)
    assert len(lines) <= rows
    assert any("loss_nonfinite" in "".join(part.text for part in line) for line in lines)


def test_a_process_that_died_is_told(tmp_path: Path) -> None:
    """After a kill -9 the view ends with 3 and says so, instead of waiting for ever."""
    body = f"""
        import os, time
        from rlwatch import Watch
        watch = Watch(console=False, stall=False, runs_dir={str(tmp_path)!r}, run_id="dead")
        for row in range(20):
            watch.log(step=row, loss=0.5)
        time.sleep(1.0)
        os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(body)], timeout=60, check=False)
    for file in (tmp_path / "dead").iterdir():
        os.utime(file, (time.time() - 60, time.time() - 60))
    done = piped(tmp_path / "dead")
    assert done.returncode == 3
    assert "has died without closing the run" in done.stderr
    assert "dead  died" in done.stdout
    assert "step 19" in done.stdout


def test_a_folder_that_goes_away_ends_it(record: Record) -> None:
    """Deleted while it is watched: 3 and one sentence."""
    folder = record(close=False)
    with subprocess.Popen(
        command("watch", folder, "--every", "0.1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("rlwatch run")
        shutil.rmtree(folder)
        assert process.wait(30) == 3
        assert process.stderr.read() == f"rlwatch: {folder}: the run's record has gone\n"


def test_silence_may_end_it(record: Record) -> None:
    """`--idle` ends the view of a run that says nothing more, with the verdict so far."""
    done = piped(record(nan_at=30, close=False), "--idle", "1", "--every", "0.1")
    assert done.returncode == 2
    assert "running" in done.stdout


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "there is no such file or folder"),
        (lambda path: path.write_text(""), "is a file: name the run's folder"),
        (lambda path: path.mkdir(), "holds no run"),
        (lambda path: (path.mkdir(), (path / "run.json").write_text("{")), "is no JSON"),
        (lambda path: (path.mkdir(), (path / "run.json").write_text("[1]")), "holds no JSON object"),
    ],
)
def test_what_is_no_run_is_one_sentence(tmp_path: Path, make: object, sentence: str) -> None:
    """Missing, a file, empty, torn: 3 and one line on stderr."""
    make(tmp_path / "x")  # type: ignore[operator]
    done = piped(tmp_path / "x")
    assert (done.returncode, done.stdout) == (3, "")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_hostile_records_do_not_break_the_picture(tmp_path: Path) -> None:
    """Wrong types at every place, control characters and rich's own markup are shown as text."""
    folder = tmp_path / "bad"
    folder.mkdir()
    info = {
        "run_id": "\x1b[31m[red]x",
        "started": "no",
        "settings": [],
        "detectors": {"a": 1},
        "off": 3,
        "coverage": [],
        "summary": 5,
    }
    (folder / "run.json").write_text(json.dumps(info))
    rows = [
        {"step": "a", "row": [], "time": {}, "loss": "NaN", "\x1b]0;x\x07": 1},
        {"loss": [1]},
        {"loss": True, "samples": 3},
    ]
    (folder / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    alerts = [
        {},
        {"detector": None, "severity": 3, "step": "x", "message": "[bold]\x1b[2J"},
        {"severity": "critical", "time": "x"},
    ]
    (folder / "alerts.jsonl").write_text("".join(json.dumps(alert) + "\n" for alert in alerts))
    (folder / "events.jsonl").write_text('{"event": "rollback", "time": []}\n')
    (folder / "incidents" / "1-x").mkdir(parents=True)
    (folder / "incidents" / "1-x" / "diagnosis.json").write_text('{"fixes": [3], "title": null}')
    done = piped(folder, "--once")
    assert done.returncode == 2, done.stderr
    assert "\x1b" not in done.stdout
    assert "[bold]" in done.stdout
    assert piped(folder, "--once", "--format", "json").returncode == 2


def test_states_follow_the_rows(record: Record) -> None:
    """A live run's detectors are armed as their rows come, although its record holds only the coverage of row 10."""
    folder = record(rows=40, close=False)
    run = RunRecord(folder)
    run.refresh()
    recorded = json.loads((folder / "run.json").read_text())["coverage"]
    found = {line.detector: line for line in states(run)}
    assert recorded["reward_drift"]["state"] == "warming"
    assert found["reward_drift"].word == "armed"
    assert found["frozen_weights"].word == "starved"
    assert found["advantage_spike"].word == "starved"
    assert "log advantage_std" in found["advantage_spike"].fix


def test_states_of_rules_and_of_what_a_preset_lacks(record: Record) -> None:
    """A rule is armed by all of its signals; where there is no critic its detectors are off, not starved."""
    rules = ["kl > 9 for 20", "kl > 9 and entropy < 0.1"]
    run = RunRecord(record(rows=40, close=False, preset="grpo", rules=rules))
    run.refresh()
    found = {line.detector: line.word for line in states(run)}
    assert (found["rule:kl > 9 for 20"], found["rule:kl > 9 and entropy < 0.1"]) == ("armed", "starved")
    assert found["value_failure"] == "off"


def test_a_rollback_clears_the_alarm(record: Record) -> None:
    """What was told before the run went back is no longer its state."""
    run = RunRecord(record(nan_at=30))
    run.refresh()
    assert {line.detector: line.word for line in states(run)}["loss_nonfinite"] == "critical"
    with (run.folder / "events.jsonl").open("a") as file:
        file.write(json.dumps({"event": "rollback", "step": 31, "time": time.time() + 1}) + "\n")
    run.refresh()
    assert {line.detector: line.word for line in states(run)}["loss_nonfinite"] == "armed"


def test_a_long_record_is_read_from_its_end(tmp_path: Path) -> None:
    """Of a million rows only the last are read, and what is kept does not grow."""
    folder = tmp_path / "long"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"run_id": "long", "started": 1.0, "detectors": ["kl_explosion"]}))
    with (folder / "steps.jsonl").open("w") as file:
        for start in range(0, 200_000, 1000):
            file.write("".join(f'{{"step":{n},"row":{n},"time":{n},"kl":0.1}}\n' for n in range(start, start + 1000)))
    run = RunRecord(folder)
    run.refresh()
    while run.behind:
        run.refresh()
    assert run.read < 60_000
    assert (run.step, run.row, len(run.rows)) == (199_999, 200_000, 512)
    assert not run.whole
    assert run.seconds_per_step == 1.0
    assert [line.word for line in states(run)] == ["armed"]
