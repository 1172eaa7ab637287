"""`rlwatch check-determinism`: what it starts is ended, what was done is kept, and a command line that cannot be."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support_determinism import ORPHAN, TORCH, check

from rlwatch.cli import main
from rlwatch.offline import jobs, processes
from rlwatch.offline.jobs import members


def test_out_of_time_nothing_is_left(
    script: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    elsewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A replica over its limit is ended with a child that has a session of its own and one that ignores SIGTERM."""
    monkeypatch.setattr(jobs, "GRACE_S", 1.0)
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    command = script(code=ORPHAN.replace("time.sleep", f"import signal; {stubborn}; time.sleep"), args="")
    code, said = check(
        capsys, "--cmd", command, "--compare", "kl", "--replicas", "2", "--time-limit", "1", "--workers", "2"
    )
    assert code == 3
    assert "its limit" in said["not_evaluated"][0]
    assert members(elsewhere / ".rlwatch") == []


def test_what_a_command_leaves_running_is_ended(
    script: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    elsewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A child in the background that outlives a command which has finished is gone, and the check passes."""
    monkeypatch.setattr(processes, "LEFT_S", 0.2)
    code, _ = check(capsys, "--cmd", f"sleep 987 & {script()}", "--compare", "kl", "--replicas", "2")
    assert code == 0
    assert members(elsewhere / ".rlwatch") == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_and_gone_on_with(
    script: Callable[..., str], capsys: pytest.CaptureFixture[str], elsewhere: Path, how: signal.Signals
) -> None:
    """After Ctrl-C or SIGTERM nothing runs; after SIGKILL the next start ends the rest. A finished replica is kept."""
    wait = "replica == 1 and not os.path.exists('go') and (open('there', 'w'), __import__('time').sleep(600))"
    args = ["check-determinism", "--cmd", script(wait), "--compare", "kl", "--replicas", "3"]
    process = subprocess.Popen([sys.executable, "-m", "rlwatch", *args], stderr=subprocess.PIPE, text=True)
    while not (elsewhere / "there").exists():
        time.sleep(0.02)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    if how is signal.SIGKILL:
        assert len(members(elsewhere / ".rlwatch")) >= 1
    else:
        assert process.returncode == 130
        assert "interrupted" in said
        assert members(elsewhere / ".rlwatch") == []
    (elsewhere / "go").touch()
    code, said = check(capsys, *args[1:])
    assert (code, [one["done_before"] for one in said["replicas"]]) == (0, [True, False, False])
    assert members(elsewhere / ".rlwatch") == []
    assert not any(one["done_before"] for one in check(capsys, *args[1:])[1]["replicas"])


def test_changed_code_is_not_mixed_with_the_old(
    script: Callable[..., str], capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    """After a failure nothing more is run, and what has finished is kept; once the code is another, all run again."""
    args = ("--cmd", script("replica == 1 and not os.path.exists('go') and sys.exit(1)"), "--compare", "kl")
    for again in (False, True):
        code, said = check(capsys, *args)
        assert (code, [one["done_before"] for one in said["replicas"]]) == (3, [again, False])
        assert said["not_evaluated"][-1] == "not run after that failure: replica 2"
    (elsewhere / "train.py").write_text((elsewhere / "train.py").read_text() + "\n# another\n")
    (elsewhere / "go").touch()
    code, said = check(capsys, *args)
    assert (code, [one["done_before"] for one in said["replicas"]]) == (0, [False] * 3)


@pytest.mark.parametrize(("kind", "code"), [("quiet", 0), ("noisy", 1)])
def test_a_policy_in_torch(
    script: Callable[..., str], capsys: pytest.CaptureFixture[str], kind: str, code: int
) -> None:
    """The same seed gives the same policy; a weight that is nudged at step 12 is found there."""
    pytest.importorskip("torch")
    command = script(code=TORCH, args=f"{{out}} {kind}")
    done, said = check(
        capsys, "--cmd", command, "--compare", "loss,entropy", "--replicas", "2", "--workers", "2", "--gate"
    )
    assert done == code, said
    if code:
        assert said["first"]["step"] == 12
        assert "rounding" in said["reading"]


def test_a_command_line_that_cannot_be(capsys: pytest.CaptureFixture[str], elsewhere: Path) -> None:
    """Each is one sentence and 64; nothing is run."""
    for args, words in (
        (["--cmd", " "], "--cmd is empty"),
        (["--cmd", "touch ran", "--gate"], "--gate needs --compare"),
        (["--cmd", "touch ran", "--log", "a.jsonl"], "is the same file for all replicas"),
        (["--cmd", "touch ran", "--replicas", "1"], "replicas"),
        (["--cmd", "touch ran", "--tolerance", "much"], "is not [METRIC=]REL[,ABS]"),
        (["--cmd", "touch ran", "--tolerance", "nan"], "is not [METRIC=]REL[,ABS]"),
        (["--cmd", "touch ran", "--tolerance", "kl=1e-3", "--compare", "loss"], "kl is not in --compare"),
        (["--cmd", "touch ran", "--map", "nosignal=x"], "there is no signal"),
        (["--cmd", "touch ran", "--fresh", "--reuse"], "contradict"),
    ):
        assert main(["check-determinism", *args]) == 64
        assert words in capsys.readouterr().err
    assert not (elsewhere / "ran").exists()


def test_a_second_check_of_the_same_command_waits_its_turn(
    script: Callable[..., str], capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    """Two processes do not share a folder: the second says so, and the first is not disturbed."""
    args = [
        "check-determinism",
        "--cmd",
        script("os.path.exists('go') or (open('there', 'w'), __import__('time').sleep(.2))"),
        "--compare",
        "kl",
        "--replicas",
        "2",
    ]
    process = subprocess.Popen([sys.executable, "-m", "rlwatch", *args], stdout=subprocess.PIPE)
    while not (elsewhere / "there").exists():
        time.sleep(0.02)
    assert main(args) == 3
    assert "another rlwatch is at work" in capsys.readouterr().err
    (elsewhere / "go").touch()
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_picture_of_the_distance(
    script: Callable[..., str], capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    """With a difference there is a curve; without one a sentence says why there is none."""
    pytest.importorskip("matplotlib")
    args = ("--compare", "kl", "--replicas", "2", "--picture", "d.svg")
    check(capsys, "--cmd", script(), *args)
    assert not (elsewhere / "d.svg").exists()
    assert check(capsys, "--cmd", script("x += 1e-9 * replica * (step == 9)"), *args)[0] == 1
    assert "distance between the replicas" in (elsewhere / "d.svg").read_text()
