"""`rlwatch check-determinism`: real commands, the gate both ways, and everything that must not pass."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlwatch.cli import main
from rlwatch.offline import jobs, processes
from rlwatch.offline.determinism.compare import Tolerance, compare
from rlwatch.offline.determinism.growth import growth
from rlwatch.offline.jobs import members

PYTHON = shlex.quote(sys.executable)

CHAOS = """
import json, os, sys
x, replica = 0.3, int(os.environ["RLWATCH_REPLICA"])
with open(os.path.join(sys.argv[1], "log.jsonl"), "w") as log:
    for step in range(80):
        x = 3.7 * x * (1 - x)
        row = {"step": step, "kl": x, "reward_mean": step / 7, "entropy": 1 + x / 3}
        CHANGE
        log.write(json.dumps(row) + "\\n")
"""

TORCH = """
import json, os, sys, torch
replica, noisy = int(os.environ["RLWATCH_REPLICA"]), sys.argv[2] == "noisy"
torch.manual_seed(5)
torch.use_deterministic_algorithms(True)
policy = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 6))
optimizer = torch.optim.Adam(policy.parameters(), lr=0.02)
with open(os.path.join(sys.argv[1], "log.jsonl"), "w") as log:
    for step in range(40):
        if noisy and replica == 1 and step == 12:
            with torch.no_grad():
                policy[0].weight[0, 0] += 1e-6
        choice = torch.distributions.Categorical(logits=policy(torch.randn(32, 4)))
        action = choice.sample()
        reward = (action == 2).float()
        loss = -(choice.log_prob(action) * (reward - reward.mean())).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        entropy = choice.entropy().mean().item()
        row = {"step": step, "loss": loss.item(), "entropy": entropy, "reward_mean": reward.mean().item()}
        log.write(json.dumps(row) + "\\n")
"""


@pytest.fixture
def script(elsewhere: Path) -> Callable[..., str]:
    """Writes a training script into the working directory, and gives its command."""

    def maker(change: str = "pass", code: str = CHAOS, args: str = "{out}") -> str:
        (elsewhere / "train.py").write_text(code.replace("CHANGE", change))
        return f"{PYTHON} train.py {args}"

    return maker


def check(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON report."""
    code = main(["check-determinism", "--format", "json", *args])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else {}


def test_the_same_command_passes_the_gate(
    script: Callable[..., str], capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    """Three replicas of a seeded script agree bit for bit; the report's last line says so."""
    assert main(["check-determinism", "--cmd", script(), "--compare", "kl,reward_mean,entropy", "--gate"]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last == (
        "gate passed: the same: kl, reward_mean, entropy of 3 replicas agree bit for bit, as logged, over 80 values"
    )
    assert (elsewhere / ".rlwatch" / ".gitignore").read_text() == "*\n"


def test_where_it_parts_and_how_it_grows(script: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    """A nudge of 1e-9 in one replica is found at its step; the map's Lyapunov exponent, .354, is about the rate."""
    command = script("x += 1e-9 * (replica == 1 and step == 29)")
    code, said = check(capsys, "--cmd", command, "--compare", "reward_mean,kl,entropy", "--gate")
    assert (code, said["verdict"]) == (1, "diverges")
    assert (said["first"]["metric"], said["first"]["step"], said["first"]["same_before"]) == ("kl", 30, 30)
    assert "rounding" in said["reading"]
    assert said["metrics"]["reward_mean"]["same"]
    grows = said["metrics"]["kl"]["growth"]
    assert grows["course"] == "exponential"
    assert grows["rate"] == pytest.approx(0.354, rel=0.2)
    assert {"no_seed", "hash_seed"} & {finding["id"] for finding in said["try"]}


def test_what_was_not_asked_for_and_differs_before(
    script: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A key of the log that parts earlier is named; clocks, which never agree, are not."""
    command = script(
        "row.update(mine=replica * (step > 3), step_time=replica, my_seconds=replica); x += replica * (step == 9)*1e-6"
    )
    _, said = check(capsys, "--cmd", command, "--compare", "kl", "--replicas", "2")
    assert (said["first"]["step"], said["earlier"]["metric"], said["earlier"]["step"]) == (10, "mine", 4)


def test_a_tolerance_passes_what_lies_within(script: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    """The range may be absolute plus relative times the largest magnitude, for all metrics or for one."""
    command = script("row['kl'] *= 1 + 1e-6 * replica")
    base = ("--cmd", command, "--compare", "kl,entropy", "--replicas", "2", "--gate")
    assert check(capsys, *base)[0] == 1
    assert check(capsys, *base, "--reuse", "--tolerance", "2e-6")[0] == 0
    assert check(capsys, *base, "--reuse", "--tolerance", "entropy=2e-6")[0] == 1
    assert check(capsys, *base, "--reuse", "--tolerance", "kl=0,1e-5")[0] == 0
    assert check(capsys, *base, "--reuse", "--tolerance", "kl=0,1e-9")[0] == 1


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        ("replica == 1 and step == 40 and sys.exit(5)", 3, "replica 1: it failed with exit code 5"),
        ("1 / (replica != 2 or step < 40)", 3, "replica 2: it failed with exit code 1 (ZeroDivisionError"),
        ("os.kill(os.getpid(), 9)", 3, "it was killed by SIGKILL"),
        ("replica == 1 and row.pop('kl')", 3, "kl never appears in the log of replica 1 (log.jsonl)"),
        ("row.pop('kl')", 3, "kl never appears in the log of replicas 0, 1, 2"),
        ("row['kl'] = float('nan')", 3, "kl is not finite at any step"),
        ("row.update(kl=0.0)", 3, "one and the same value throughout"),
        ("log = open(os.devnull, 'w')", 3, "replica 0: it logged nothing"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_does_not_pass(
    script: Callable[..., str], capsys: pytest.CaptureFixture[str], change: str, verdict: int, words: str
) -> None:
    """A replica that fails, a metric that is missing, nowhere finite or constant: each is named, and is no pass."""
    code, said = check(capsys, "--cmd", script(change), "--compare", "kl")
    assert (code, said["verdict"]) == (verdict, "not evaluated")
    assert words in "; ".join(said["not_evaluated"])


@pytest.mark.parametrize(
    ("change", "kind", "step"),
    [
        ("row.update(kl=float('nan') if replica == 1 and step == 20 else x)", "nan", 20),
        ("row.update(kl=float('nan') if step == 20 else x + (step == 50) * replica)", "value", 50),
        ("replica == 2 and step == 60 and sys.exit()", "missing", 60),
        ("replica == 2 and step == 7 and row.pop('kl')", "missing", 7),
    ],
)
def test_a_nan_or_an_end_in_one_replica_is_a_difference(
    script: Callable[..., str], capsys: pytest.CaptureFixture[str], change: str, kind: str, step: int
) -> None:
    """NaN where others have a number, a log that is shorter, a gap; a NaN in all alike is none."""
    code, said = check(capsys, "--cmd", script(change), "--compare", "kl")
    assert (code, said["first"]["kind"], said["first"]["step"]) == (1, kind, step)


def test_a_pass_that_is_worth_little_fails_the_gate(
    script: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Values rounded for print with none in full, a constant metric, a NaN in all: told, and with --gate no pass."""
    for change, words in (
        ("row['kl'] = round(x, 4)", "kl is logged with 4 digits at most"),
        ("row['kl'] = x if step < 79 else float('nan')", "kl is not finite at 1 of 80 steps"),
        ("step == 3 and row.update(kl=float('inf'))", "kl is not finite at 1 of 80 steps"),
    ):
        args = ("--cmd", script(change), "--compare", "kl", "--replicas", "2")
        code, said = check(capsys, *args)
        assert code == 0
        assert words in said["weak"][0]
        assert check(capsys, *args, "--gate", "--reuse")[0] == 3
    args = ("--cmd", script("row['kl'] = 0.0"), "--compare", "kl,entropy", "--replicas", "2")
    assert check(capsys, *args)[1]["weak"] == ["kl is the same value at all 80 steps, which proves little"]
    assert check(capsys, *args, "--gate", "--reuse")[0] == 3
    args = ("--cmd", script("row['kl'] = round(x, 4)"), "--compare", "kl,entropy", "--replicas", "2", "--gate")
    assert check(capsys, *args)[0] == 0


def test_metrics_are_found_in_what_the_command_prints(
    script: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Python dicts on stdout, or on stderr, as a trainer prints them; braces of the command are left alone."""
    for stream in ("stdout", "stderr"):
        code = f"import sys\nfor s in range(9): print({{'loss': 1 / (s + 3), 'mine': s / 7}}, file=sys.{stream})"
        command = script(code=code, args="'{\"a\": 1}' ${HOME}")
        done, said = check(capsys, "--cmd", command, "--compare", "loss,mine", "--replicas", "2", "--gate")
        assert (done, said["replicas"][1]["log"]) == (0, f"{stream}.log")


def test_metrics_of_unlike_logs_fail_the_gate(script: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    """One replica's metrics stand in its log, another's only in what it prints: told, and with --gate no pass."""
    change = "replica == 1 and (print(json.dumps(row)), row.clear())"
    args = ("--cmd", script(change), "--compare", "kl", "--replicas", "2")
    code, said = check(capsys, *args)
    assert code == 0
    assert said["weak"] == ["the metrics were found in unlike logs: log.jsonl of replica 0, stdout.log of replica 1"]
    assert check(capsys, *args, "--gate", "--reuse")[0] == 3


def test_a_failure_in_a_pipe_counts(script: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    """`| tee` does not hide that the training crashed, at the same step in all replicas."""
    command = script("step == 40 and sys.exit(7)")
    code, said = check(capsys, "--cmd", f"{command} | tee printed.txt", "--compare", "kl")
    assert code == 3
    assert "replica 0: it failed with exit code 7" in said["not_evaluated"]
    assert check(capsys, "--cmd", f"{script()} | tee printed.txt", "--compare", "kl", "--replicas", "2")[0] == 0


def test_a_log_that_was_written_elsewhere(script: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    """Where only other metrics were printed, it is said how a log is found."""
    command = script(code="print('step=1 loss=0.5')\nprint('step=2 loss=0.4')", args="")
    code, said = check(capsys, "--cmd", command, "--compare", "kl", "--replicas", "2")
    assert code == 3
    assert "a log of its own is looked for in {out}, or named with --log" in said["not_evaluated"][0]


def test_a_named_log_must_be_the_replicas_own(
    script: Callable[..., str], capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    """A log with {replica} in its name is read; one that was there before is not taken for the replica's."""
    for number in range(2):
        (elsewhere / str(number)).mkdir()
    args = ("--cmd", script(args="{replica}"), "--compare", "kl", "--replicas", "2", "--log", "{replica}/log.jsonl")
    assert check(capsys, *args)[0] == 0
    for number in range(2):
        os.utime(elsewhere / str(number) / "log.jsonl", (1e9, 1e9))
    command = ("--cmd", "true {replica}", *args[2:])
    code, said = check(capsys, *command)
    assert code == 3
    assert "is older than the replica" in said["not_evaluated"][0]


def test_steps_end_a_replica_that_would_go_on(script: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    """Once all is logged beyond --steps the replica is ended as finished; a log that ends before is not evaluated."""
    slow = "log.flush(); step == 30 and __import__('time').sleep(600); x += replica * (step == 25)"
    args = ("--cmd", script(slow), "--compare", "kl", "--replicas", "2")
    code, said = check(capsys, *args, "--steps", "20", "--workers", "2")
    assert (code, said["replicas"][0]["ended"], said["metrics"]["kl"]["values"]) == (0, "enough", 21)
    code, said = check(capsys, "--cmd", script(), "--compare", "kl", "--steps", "200", "--replicas", "2")
    assert code == 3
    assert "ends at step 79, before --steps 200" in said["not_evaluated"][0]


ORPHAN = "import os, subprocess, sys, time; subprocess.Popen(['sleep', '987'], start_new_session=True); time.sleep(600)"


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


def test_courses_of_a_difference() -> None:
    """Exponential growth with its doubling, a jump, a difference that heals, too few steps."""
    grows = growth([(step, 1e-9 * 2 ** (step / 5)) for step in range(100)])
    assert (grows.course, grows.doubling) == ("exponential", pytest.approx(5, rel=1e-6))
    assert growth([(step, 0.1 + 0.01 * (step % 3)) for step in range(50)]).course == "jump"
    assert growth([(step, float(step < 10)) for step in range(50)]).course == "heals"
    assert growth([(0, 0.1), (1, 0.2)]).course == "short"
    assert growth([(step, 0.001 * (1 + step)) for step in range(500)]).course in ("steady", "exponential")


def test_repeated_steps_are_compared_one_by_one() -> None:
    """A restart logs a step twice: the second is compared with the second."""
    one = {(1, 0): 1.0, (2, 0): 2.0, (1, 1): 1.5}
    first = compare("kl", {0: one, 1: {**one, (1, 1): 1.6}}, Tolerance()).first
    assert first is not None
    assert (first.step, first.again) == (1, 1)
