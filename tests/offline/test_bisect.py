"""`rlwatch bisect`: real repositories, a known culprit, and everything that may stand in the way."""

from __future__ import annotations

import json
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlwatch.cli import main
from rlwatch.offline.bisect.plan import Attempt, Plan, decide
from rlwatch.offline.jobs import members

PYTHON = shlex.quote(sys.executable)

TRAIN = """
import json, os, sys
with open(RUNS, "a") as runs:
    print(os.environ["RLWATCH_COMMIT"], os.environ["RLWATCH_SEED"], file=runs)
level = LEVEL
BODY
for step in range(30):
    print(json.dumps({"step": step, "reward_mean": level + step / 1e4, "kl": 0.1}))
"""


class Repo:
    """A repository of `train.py`, with a record of its runs outside of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder / "repo", folder / "runs.txt"
        self.folder.mkdir()
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.email", "e@e")
        self.git("config", "user.name", "n")

    def git(self, *args: str) -> str:
        """What git prints."""
        done = subprocess.run(["git", *args], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, subject: str, level: float, body: str = "") -> str:
        """Commits a version of the script; its hash."""
        text = TRAIN.replace("RUNS", repr(str(self.runs))).replace("LEVEL", str(level)).replace("BODY", body)
        (self.folder / "train.py").write_text(f"# {subject}\n{text}")
        self.git("add", "train.py")
        self.git("commit", "-q", "-m", subject)
        return self.git("rev-parse", "HEAD")

    def history(self, count: int, culprit: int, bodies: dict[int, str] | None = None) -> list[str]:
        """`count` commits in a row, bad from number `culprit` on; `bodies` is code of single ones."""
        codes = bodies or {}
        return [self.commit(f"change {n}", 0.8 if n >= culprit else 0.9, codes.get(n, "")) for n in range(count)]

    @property
    def ran(self) -> list[str]:
        """The commits at which the script ran, in order."""
        return [line.split()[0] for line in self.runs.read_text().splitlines()] if self.runs.exists() else []

    def state(self) -> tuple[str, ...]:
        """All that must stay as it is: files, index, branch, refs, worktrees."""
        files = {str(path): path.read_text() for path in sorted(self.folder.glob("*")) if path.is_file()}
        asked = (("status", "--porcelain=v2", "--branch"), ("for-each-ref",), ("worktree", "list"), ("stash", "list"))
        return (str(files), *(self.git(*args) for args in asked), (self.folder / ".git" / "HEAD").read_text())


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repo]:
    """An empty repository that is the working directory; no worktree is left over."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    made = Repo(tmp_path)
    monkeypatch.chdir(made.folder)
    yield made
    assert list(temporary.glob("rlwatch-bisect-*")) == []


COMMON = ("--cmd", f"{PYTHON} train.py", "--metric", "reward_mean", "--cmp", "> 0.87")


def search(
    capsys: pytest.CaptureFixture[str], good: str, bad: str, *more: str, common: tuple[str, ...] = COMMON
) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON report."""
    code = main(["bisect", "--good", good, "--bad", bad, *common, "--format", "json", *more])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else {}


def test_the_culprit_is_found_and_nothing_else_changes(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """Past a commit that crashes and one without the metric; a dirty checkout and a bisect of the user's stay."""
    commits = repo.history(10, 7, {4: "raise ValueError('broken')", 5: "sys.exit()"})
    repo.git("bisect", "start", commits[9], commits[0])
    (repo.folder / "train.py").write_text("dirty = True\n")
    (repo.folder / "new.txt").write_text("mine")
    repo.git("add", "new.txt")
    before = repo.state()
    code, said = search(capsys, commits[0], commits[9])
    assert repo.state() == before
    assert (code, said["first_bad"]["commit"]) == (0, commits[7])
    verdicts = {commits.index(one["commit"]): one["verdict"] for one in said["commits"]}
    expected = {n: "bad" if n >= 7 else "skip" if n in (4, 5) else "good" for n in verdicts}
    assert verdicts == expected
    assert repo.ran.count(commits[0]) == 1


def test_the_report_in_words(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """A table of what was measured, the culprit, its subject and files; a skipped commit with its reason."""
    commits = repo.history(8, 5, {3: "raise ValueError('broken')"})
    assert main(["bisect", "--good", commits[0], "--bad", "main", *COMMON, "--window", "30"]) == 0
    captured = capsys.readouterr()
    assert f"first bad commit: {commits[5]}\n  change 5 (n, " in captured.out
    assert "  changes train.py" in captured.out
    rows = [line.split()[:3] for line in captured.out.splitlines()]
    assert [commits[0][:10], "good", "0.90145"] in rows
    if commits[3][:10] in captured.out:
        assert f"{commits[3][:10]}: it failed with exit code 1 (ValueError: broken)" in captured.out
    assert f"{commits[7][:10]} bad, 0.80145 (1 run) change 7" in captured.err


def test_commits_that_cannot_be_judged_beside_the_culprit(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """The result is then a range, with an exit code of its own, and each with its reason."""
    commits = repo.history(5, 2, {1: "raise ValueError", 2: "level = None", 3: "print('no metric'); sys.exit()"})
    code, said = search(capsys, commits[0], commits[4])
    assert (code, said["verdict"], said["first_bad"]) == (1, "several", None)
    assert {one["commit"] for one in said["candidates"]} == {commits[n] for n in (1, 2, 3, 4)}
    assert all(one["failed"] for one in said["commits"] if one["verdict"] == "skip")


def test_noise_is_outvoted(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """A good commit whose first run is bad misleads a search with one run, and not one with three."""
    unlucky = "level = 0.8 if os.environ['RLWATCH_SEED'] == '0' else 0.9"
    commits = repo.history(6, 4, dict.fromkeys(range(1, 4), unlucky))
    assert search(capsys, commits[0], commits[5])[1]["first_bad"]["commit"] == commits[1]
    code, said = search(capsys, commits[0], commits[5], "--repeats", "3")
    assert (code, said["first_bad"]["commit"]) == (0, commits[4])
    runs = {one["commit"]: len(one["values"]) for one in said["commits"]}
    assert runs[commits[0]] == runs[commits[5]] == 2  # two agree: a third would change nothing
    assert runs[commits[3]] == 3


def test_a_history_with_merges(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """The culprit on a branch is found; with --first-parent it is the merge that brought it."""
    good = repo.commit("start", 0.9)
    repo.git("checkout", "-q", "-b", "side")
    culprit = repo.commit("on the side", 0.8)
    repo.git("checkout", "-q", "main")
    (repo.folder / "other.txt").write_text("x")
    repo.git("add", "other.txt")
    repo.git("commit", "-q", "-m", "on main")
    repo.git("merge", "-q", "--no-ff", "-m", "merge", "side")
    merge = repo.git("rev-parse", "HEAD")
    repo.git("commit", "-q", "--allow-empty", "-m", "after")
    assert search(capsys, good, "main")[1]["first_bad"]["commit"] == culprit
    code, said = search(capsys, good, "main", "--first-parent")
    assert (code, said["first_bad"]["commit"]) == (0, merge)
    assert len(repo.ran) == len(set(repo.ran))  # the second search took the values of the first


@pytest.mark.parametrize(
    ("levels", "body", "words"),
    [
        ((0.8, 0.8), "", "the good end, {good}, is not good: reward_mean is 0.80245, where good is > 0.87"),
        ((0.9, 0.9), "", "the bad end, {bad}, is not bad: reward_mean is 0.90245"),
        ((0.9, 0.9), "", "it is the very same number at both ends"),
        ((0.9, 0.8), "sys.exit(3)", "the good end, {good}, cannot be judged: it failed with exit code 3"),
        ((0.9, 0.8), "sys.exit()", "cannot be judged: it logged nothing"),
    ],
)
def test_the_ends_must_be_what_they_are_said_to_be(
    repo: Repo, capsys: pytest.CaptureFixture[str], levels: tuple[float, float], body: str, words: str
) -> None:
    """Each end is measured first; without a difference between them nothing is searched."""
    good, _, bad = repo.commit("a", levels[0], body), repo.commit("b", 0.9), repo.commit("c", levels[1], body)
    code, said = search(capsys, good, bad)
    assert (code, said["verdict"]) == (3, "not evaluated")
    assert words.format(good=good[:10], bad=bad[:10]) in said["not_evaluated"]
    assert len(repo.ran) <= 2


@pytest.mark.parametrize(
    ("body", "options", "verdict", "words"),
    [
        ("level = float('nan')", (), "bad", ""),
        ("level = float('nan')", ("--skip-nonfinite",), "skip", ""),
        ("", ("--window", "31"), "skip", "it logged reward_mean 30 times, and --window asks for 31"),
        ("", ("--metric", "entropy"), "skip", "entropy never appears in stdout.log: it has reward_mean, kl"),
        ("import time; time.sleep(600)", ("--time-limit", "1"), "skip", "its limit"),
    ],
)
def test_a_run_without_a_value(
    repo: Repo, capsys: pytest.CaptureFixture[str], body: str, options: tuple[str, ...], verdict: str, words: str
) -> None:
    """A NaN is bad, or skipped if so asked; a short log, a metric that is missing, no time: skipped with the reason."""
    good, bad = repo.commit("a", 0.9), repo.commit("b", 0.8, body)
    if "--window" in options or "--metric" in options:
        code, said = search(capsys, good, bad, *options)
        assert (code, said["commits"][0]["verdict"]) == (3, verdict)
        assert words in said["not_evaluated"]
        return
    code, said = search(capsys, good, bad, *options)
    assert (code, said["commits"][1]["verdict"]) == ((0, "bad") if verdict == "bad" else (3, "skip"))
    assert words in said["not_evaluated"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_and_gone_on_with(
    repo: Repo, capsys: pytest.CaptureFixture[str], tmp_path: Path, how: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM leave no process and no worktree, SIGKILL none after the next start; values are kept."""
    there, go = tmp_path / "there", tmp_path / "go"
    wait = f"os.path.exists({str(go)!r}) or (open({str(there)!r}, 'w'), __import__('time').sleep(600))"
    commits = repo.history(7, 4, dict.fromkeys(range(1, 6), wait))
    (repo.folder / "mine.txt").write_text("x")
    before = repo.state()
    args = ["bisect", "--good", commits[0], "--bad", commits[6], *COMMON]
    process = subprocess.Popen([sys.executable, "-m", "rlwatch", *args], stderr=subprocess.PIPE, text=True)
    while not there.exists():
        time.sleep(0.02)
    process.send_signal(how)
    process.communicate(timeout=60)
    place = repo.folder / ".git" / "rlwatch"
    if how is signal.SIGKILL:
        assert members(place)
    else:
        assert process.returncode == 130
        assert members(place) == []
        assert repo.state() == before
    go.touch()
    code, said = search(capsys, commits[0], commits[6])
    assert (code, said["first_bad"]["commit"]) == (0, commits[4])
    assert repo.ran.count(commits[0]) == repo.ran.count(commits[6]) == 1
    assert members(place) == []
    assert repo.state() == before


def test_values_are_kept_and_judged_anew(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """A second search runs nothing, one with another condition only what it needs; --fresh runs all again."""
    commits = [repo.commit(f"change {n}", 0.9 - n / 50) for n in range(5)]
    assert search(capsys, commits[0], commits[4])[1]["first_bad"]["commit"] == commits[2]
    count = len(repo.ran)
    search(capsys, commits[0], commits[4])
    assert len(repo.ran) == count
    other = (*COMMON[:-1], "> 0.8325")
    code, said = search(capsys, commits[0], commits[4], common=other)
    assert (code, said["first_bad"]["commit"], said["remarks"]) == (0, commits[4], [])
    code, said = search(capsys, commits[0], commits[4], common=(*COMMON[:-1], "> 0.865"))
    assert f"near the threshold, where noise decides: {commits[2][:10]}" in said["remarks"][0]
    assert len(repo.ran) == len(set(repo.ran))
    search(capsys, commits[0], commits[4], "--fresh")
    assert repo.ran.count(commits[0]) == 2


def test_failed_runs_are_kept_until_they_may_succeed(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """A failure is not repeated without --retry-failed; one for want of time is, with more of it."""
    good, bad = repo.commit("a", 0.9, "import time; time.sleep(1.5)"), repo.commit("b", 0.8)
    assert search(capsys, good, bad, "--time-limit", "0.3")[0] == 3
    assert search(capsys, good, bad, "--time-limit", "0.3")[0] == 3
    assert search(capsys, good, bad, "--time-limit", "60")[0] == 0


def test_the_commits_own_package_is_measured(
    repo: Repo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package below src/ comes from the worktree, though the checkout's is on the path, and runs start clean."""
    package = repo.folder / "src" / "mine"
    package.mkdir(parents=True)
    commits = []
    for level in (0.9, 0.9, 0.8, 0.8):
        (package / "__init__.py").write_text(f"LEVEL = {level}\n")
        repo.git("add", "src")
        body = "assert not os.path.exists('left'); open('left', 'w'); import mine; level = mine.LEVEL"
        commits.append(repo.commit(f"to {level} {len(commits)}", 0, body))
    monkeypatch.setenv("PYTHONPATH", str(repo.folder / "src"), prepend=":")
    code, said = search(capsys, commits[0], commits[3], "--repeats", "3")
    assert (code, said["first_bad"]["commit"]) == (0, commits[2])


def test_a_command_line_that_cannot_be(repo: Repo, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each is one sentence and 64; nothing is run."""
    commits = repo.history(3, 1)
    for good, bad, more, words in (
        ("nowhere", "main", (), "--good nowhere: there is no such commit here"),
        (commits[0], "--all", (), "--bad --all: there is no such commit"),
        ("main", "HEAD", (), "are the same commit"),
        ("main", commits[0], (), "--bad is older than --good"),
        (commits[0], "main", ("--cmp", "0.87"), "'0.87' is no comparison with a number"),
        (commits[0], "main", ("--cmp", "> nan"), "is no comparison"),
        (commits[0], "main", ("--cmd", " "), "--cmd or --metric is empty"),
        (commits[0], "main", ("--map", "x=y"), "there is no signal 'x'"),
    ):
        assert main(["bisect", "--good", good, "--bad", bad, *COMMON, *more]) == 64
        assert words in capsys.readouterr().err
    assert repo.ran == []


def test_outside_of_a_repository(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said in one sentence."""
    assert main(["bisect", "--good", "a", "--bad", "b", *COMMON]) == 64
    assert "is in no git repository" in capsys.readouterr().err


@given(st.integers(0, 4).map(lambda n: 2 * n + 1).flatmap(lambda n: st.lists(st.floats(0, 1), min_size=n, max_size=n)))
def test_ending_early_never_changes_the_median(values: list[float]) -> None:
    """The verdict of as few runs as needed is that of the median of all."""
    plan = Plan("x", "kl", "> 0.5", repeats=len(values))
    attempts = [Attempt(value) for value in values]
    verdicts = [decide(plan, attempts[:count]) for count in range(len(values) + 1)]
    early = next(verdict for verdict in verdicts if verdict is not None)
    assert early == verdicts[-1] == ("good" if statistics.median(values) > 0.5 else "bad")


def test_failures_and_ties_are_skipped() -> None:
    """Failed runs count for neither side; where none can win any more, the commit is skipped at once."""
    plan = Plan("x", "kl", "< 1", repeats=3)
    failed, good, bad = Attempt(None, "it failed"), Attempt(0.5), Attempt(float("nan"))
    assert decide(plan, [failed]) is None
    assert decide(plan, [failed, failed]) == "skip"
    assert decide(plan, [failed, good, good]) == "good"
    assert decide(plan, [failed, good, bad]) == "skip"
    assert decide(plan, [bad, bad]) == "bad"
    assert decide(Plan("x", "kl", "< 1", repeats=2), [good, bad]) == "skip"
