"""The `rlwatch` command, in its own process wherever exit codes, pipes and signals matter."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlwatch import __version__
from rlwatch.cli import main

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def log(path: Path, rows: int = 40, bad_from: int | None = None) -> Path:
    """A JSONL log with a steady loss that turns NaN at a row."""
    loss = [0.5 if bad_from is None or i < bad_from else float("nan") for i in range(rows)]
    path.write_text("".join(json.dumps({"step": i, "loss": x}) + "\n" for i, x in enumerate(loss)))
    return path


def command(*args: str | Path) -> list[str]:
    """The command line as `python -m rlwatch`."""
    return [sys.executable, "-m", "rlwatch", *map(str, args)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the command in an empty folder, so that no `rlwatch.yaml` nor checkout is near."""

    def runner(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*args), cwd=tmp_path, env={**os.environ, **env}, capture_output=True, text=True, timeout=60
        )

    return runner


def test_scan_reports_and_exits_by_the_verdict(run: Run, tmp_path: Path) -> None:
    """0 for a clean run, 2 with a critical, 3 with an unreadable one; the report is on stdout."""
    clean, bad = log(tmp_path / "clean.jsonl"), log(tmp_path / "bad.jsonl", bad_from=30)
    assert run("scan", clean).returncode == 0
    done = run("scan", clean, bad)
    assert done.returncode == 2
    assert "step 30  CRITICAL  loss_nonfinite: " in done.stdout
    assert done.stderr == ""
    done = run("scan", bad, "missing.jsonl")
    assert done.returncode == 3
    assert done.stderr == "rlwatch: missing.jsonl: there is no such file or folder\n"
    assert run("scan", bad, RLWATCH_LOSS_NONFINITE__SEVERITY="warning").returncode == 1


def test_scan_writes_json_for_programs(run: Run, tmp_path: Path) -> None:
    """Each run is one line of JSON under the path as it was given."""
    log(tmp_path / "bad.jsonl", bad_from=30)
    done = run("scan", ".//bad.jsonl", "missing.jsonl", "--format", "json")
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["run"], first["rows"], first["alerts"][0]["step"]) == (".//bad.jsonl", 40, 30)
    assert second == {"run": "missing.jsonl", "error": "there is no such file or folder"}


def test_scan_takes_the_users_names(run: Run, tmp_path: Path) -> None:
    """`--map` may be repeated, and a key may hold an equals sign."""
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps({"t": 100 + i, "a=b": 0.5, "c": 0.1}) + "\n" for i in range(40)))
    done = run("scan", own, "--map", "loss=a=b", "--map", "kl=c", "--map", "step=t", "--format", "json")
    assert done.returncode == 0
    coverage = json.loads(done.stdout)["coverage"]
    assert coverage["loss_nonfinite"]["seen"] == coverage["kl_explosion"]["seen"] == 40


def test_scan_reads_a_pipe(tmp_path: Path) -> None:
    """`-` is standard input."""
    text = log(tmp_path / "bad.jsonl", bad_from=30).read_text()
    line = command("scan", "-", "--format", "json")
    done = subprocess.run(line, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert (json.loads(done.stdout)["run"], json.loads(done.stdout)["rows"]) == ("-", 40)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["scan"], "Missing argument"),
        (["scan", "x", "--formt", "json"], "--formt"),
        (["scan", "x", "--format", "yaml"], "yaml"),
        (["scan", "x", "--map", "entropi=a"], "there is no signal 'entropi'; did you mean entropy"),
        (["scan", "x", "--map", "qqqq=a"], "there is no signal 'qqqq'"),
        (["scan", "x", "--map", "kl"], "is not SIGNAL=KEY"),
        (["scan", "x", "--map", "kl=a", "--map", "kl=b"], "mapped twice"),
        (["scan", "x", "--map", "kl=a", "--map", "loss=a"], "mapped twice"),
        (["scan", "x", "--preset", "pppo"], "did you mean 'ppo'"),
        (["scn"], "scn"),
        (["playbook", "kl_explosions"], "kl_explosion"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    capsys: pytest.CaptureFixture[str], args: list[str], sentence: str
) -> None:
    """Usage errors exit with 64, apart from the verdicts, and say what was meant."""
    assert main(args) == 64
    said = capsys.readouterr()
    assert said.err.startswith("rlwatch: ")
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_a_wrong_settings_file_is_one_sentence(run: Run, tmp_path: Path) -> None:
    """A misspelt key in `rlwatch.yaml` stops a scan before the first run."""
    (tmp_path / "rlwatch.yaml").write_text("kl_explosionn:\n  cooldown: 5\n")
    done = run("scan", log(tmp_path / "run.jsonl"))
    assert (done.returncode, done.stdout) == (64, "")
    assert "kl_explosion" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_shows_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that a CI needs to gate on a scan is in its help."""
    assert main(["scan", "--help"]) == 0
    text = capsys.readouterr().out
    for part in ("Examples:", "--map kl=my/kl", "Exit codes:", "130", "64 ", "criticals"):
        assert part in text
    assert main([]) == 64
    assert "scan" in capsys.readouterr().err


def test_version(run: Run) -> None:
    """The version is that of the package."""
    assert run("--version").stdout == f"{__version__}\n"


@pytest.mark.parametrize("name", ["kl_explosion", "playbook/kl_explosion.md", "KL-Explosion"])
def test_playbook_prints_a_page(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A page is found by its detector and by an alert's link, and printed as Markdown outside a terminal."""
    assert main(["playbook", name]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# ")
    assert main(["playbook", name, "--raw"]) == 0
    assert capsys.readouterr().out == text


def test_playbook_is_rendered_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal the Markdown is set with colours instead of its marks."""
    terminal, end = os.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    env.pop("NO_COLOR", None)
    page = command("playbook", "index")
    with subprocess.Popen(page, stdout=end, stderr=subprocess.STDOUT, env=env, cwd=tmp_path) as process:
        os.close(end)
        text = b""
        with contextlib.suppress(OSError):  # Linux ends a terminal with an error
            while part := os.read(terminal, 65536):
                text += part
    os.close(terminal)
    assert process.returncode == 0
    assert b"\x1b[" in text
    assert b"**" not in text


def test_playbook_lists_its_pages(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name every page is listed, a line each."""
    assert main(["playbook"]) == 0
    assert {"index", "kl_explosion", "loss_nonfinite"} <= set(capsys.readouterr().out.split())


def test_detectors_are_listed_with_what_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    """A line a detector: its name, its link of the loop, its signals."""
    assert main(["detectors"]) == 0
    line = next(row for row in capsys.readouterr().out.splitlines() if row.startswith("entropy_collapse "))
    assert line.split()[1:3] == ["exploration", "entropy"]


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    """`rlwatch scan ... | head -1` ends quietly, without a traceback."""
    run = log(tmp_path / "run.jsonl")
    with subprocess.Popen(
        command("scan", *[run] * 300, "--format", "json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"{")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


def test_interrupting_a_scan_reports_what_is_done(tmp_path: Path) -> None:
    """Ctrl-C in the second run prints the first one's verdict and exits with 130."""
    clean, blocking = log(tmp_path / "clean.jsonl"), tmp_path / "pipe"
    os.mkfifo(blocking)
    scan = command("scan", clean, blocking)
    with subprocess.Popen(scan, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        holder = blocking.open("w")  # opens when the scan has come to its second run
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        holder.close()
    assert process.returncode == 130
    assert "1 run: 1 clean" in out
    assert err == "rlwatch: interrupted: 1 of 2 runs were scanned\n"


def test_interrupting_several_processes_loses_nothing_done(tmp_path: Path) -> None:
    """Ctrl-C while one run is read reports the others that are done, in JSON too, and leaves no process behind."""
    done, blocking = log(tmp_path / "done.jsonl"), tmp_path / "pipe"
    wide = log(tmp_path / "wide.jsonl")
    wide.write_text(json.dumps({"step": 0, "loss": 0.5, "note": "x" * 5_000_000}) + "\n" + wide.read_text())
    os.mkfifo(blocking)
    scan = command("scan", blocking, done, wide, "--jobs", "2", "--format", "json")
    with subprocess.Popen(
        scan, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        while "scanned 2 of 3" not in process.stderr.readline():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert [Path(json.loads(line)["run"]).name for line in out.splitlines()] == ["done.jsonl", "wide.jsonl"]
    assert err.endswith("rlwatch: interrupted: 2 of 3 runs were scanned\n")
    assert "Traceback" not in err


def test_a_terminal_without_unicode_does_not_stop_a_report(run: Run, tmp_path: Path) -> None:
    """Characters that the output cannot carry are escaped."""
    path = log(tmp_path / "größe.jsonl", bad_from=30)
    done = run("scan", path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 2
    assert "gr\\xf6\\xdfe.jsonl" in done.stdout


def test_without_typer_the_command_says_what_to_install() -> None:
    """The base installation has the entry point, but not the extra that it needs."""
    code = "import sys; sys.modules['typer'] = None; from rlwatch.cli import main; sys.exit(main(['--version']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 64
    assert done.stderr == "rlwatch: the command line needs typer: pip install 'rlwatch[cli]'\n"


def test_a_scan_loads_no_training_framework(tmp_path: Path) -> None:
    """Neither torch nor what comes with it is imported, and for the version not even NumPy."""
    code = (
        "import sys; from rlwatch.cli import main\n"
        "main(['--version']); early = {'numpy', 'torch', 'yaml'} & set(sys.modules)\n"
        f"main(['scan', {str(log(tmp_path / 'run.jsonl'))!r}])\n"
        "print(sorted(early), sorted({'torch', 'transformers', 'trl', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[] []"
