"""`rlwatch check-determinism`: real commands, the gate both ways, and everything that must not pass."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support_determinism import check

from rlwatch.cli import main
from rlwatch.offline.determinism.compare import Tolerance, compare
from rlwatch.offline.determinism.growth import growth


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
