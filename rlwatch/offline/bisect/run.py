"""`rlwatch bisect`: both ends verified, `git bisect run` driven in a worktree, the result reported."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import rlwatch
from rlwatch.offline import processes
from rlwatch.offline.bisect import report
from rlwatch.offline.bisect.measure import results, verdict_of
from rlwatch.offline.bisect.plan import Attempt, Plan, Verdict, middle
from rlwatch.offline.bisect.report import Bisected, Measured
from rlwatch.offline.bisect.tree import OF_A_HOOK, GitError, clean_up, commit_of, common, git, worktree
from rlwatch.offline.processes import Ended, Running, Task, interruptible
from rlwatch.offline.render import printable
from rlwatch.offline.workplace import BusyError, Ticker, workplace, write_json

USAGE = 64

_CULPRIT = re.compile(r"^# (possible )?first bad commit: \[([0-9a-f]{40,64})\]", re.MULTILINE)
_DRIVER = """
import sys
sys.path.insert(0, {root!r})
from rlwatch.offline.bisect.measure import main
sys.exit(main(sys.argv[1:]))
"""


def run(
    plan: Plan,
    good: str,
    bad: str,
    *,
    where: Path | None = None,
    first_parent: bool = False,
    retry: bool = False,
    fresh: bool = False,
    form: Literal["text", "json"] = "text",
) -> int:
    """Searches, prints the report on stdout and returns the exit code.

    `plan.prefix` is filled in from `where`, by default the working directory. With `retry` failed runs are forgotten,
    with `fresh` all. On Ctrl-C, SIGTERM or SIGHUP what runs is ended, the worktree removed, and `KeyboardInterrupt`
    raised; the next call goes on with the values that there are.
    """
    where = where or Path.cwd()
    ticker = Ticker()
    try:
        home = common(where)
        ends = commit_of(where, good, "--good"), commit_of(where, bad, "--bad")
        _check(where, *ends)
        plan = replace(plan, prefix=git(where, "rev-parse", "--show-prefix"))
    except GitError as error:
        print(printable(f"rlwatch: {error}"), file=sys.stderr)
        return USAGE
    place = home / "rlwatch" / f"bisect-{plan.key}"
    try:
        with interruptible(), workplace(place):
            clean_up(where, place)
            _forget(place, plan, retry, fresh)
            write_json(place / "plan.json", plan.as_dict())
            found = Search(plan, where, place, ticker, first_parent).search(*ends)
    except (BusyError, GitError, OSError) as error:
        ticker.clear()
        print(printable(f"rlwatch: not evaluated: {error}"), file=sys.stderr)
        return report.EXIT["not evaluated"]
    except KeyboardInterrupt:
        ticker.say("rlwatch: interrupted: the worktree is removed; the same command goes on with the values measured")
        raise
    if form == "json":
        print(json.dumps({**report.as_dict(found), "folder": str(place)}, allow_nan=False, indent=2))
    else:
        print("\n".join(map(printable, report.lines(found))))
    return report.EXIT[found.verdict]


def _check(where: Path, good: str, bad: str) -> None:
    """Raises `GitError` for ends between which there is nothing to search."""
    if good == bad:
        raise GitError("--good and --bad are the same commit")
    base = git(where, "merge-base", good, bad, check=False)
    if not base:
        raise GitError("--good and --bad have no history in common")
    if base == bad:
        raise GitError("--bad is older than --good: exchange them, or turn the condition of --cmp round")


def _forget(place: Path, plan: Plan, retry: bool, fresh: bool) -> None:
    """Drops values that are not to be used again; runs that ended for want of time, where there is more now."""
    if fresh:
        shutil.rmtree(place / "results", ignore_errors=True)
    for file in (place / "results").glob("*.json"):
        attempts = results(place, file.stem)
        more = [one for one in attempts if not ((retry and one.trouble) or (one.limited and _longer(plan, one)))]
        write_json(file, {"attempts": [asdict(one) for one in more]})


def _longer(plan: Plan, attempt: Attempt) -> bool:
    return plan.limit_s is None or plan.limit_s > attempt.seconds + 1


class Search:
    """One search; `say` and `show` of the ticker tell how it goes."""

    def __init__(self, plan: Plan, where: Path, place: Path, ticker: Ticker, first_parent: bool) -> None:
        self.plan, self.where, self.place, self.ticker = plan, where, place, ticker
        self._options = ["--first-parent"] if first_parent else []
        kept = {file.stem: results(place, file.stem) for file in (place / "results").glob("*.json")}
        self._told = {commit for commit, attempts in kept.items() if verdict_of(plan, attempts) is not None}
        if self._told:
            ticker.say(f"rlwatch: {len(self._told)} commits were measured before (--fresh measures anew)")

    def search(self, good: str, bad: str) -> Bisected:
        """Measures the ends, then what git asks for. Raises `GitError`, `OSError`."""
        found = Bisected(self.plan)
        with worktree(self.where, self.place, good) as tree:
            for commit, end in ((good, "good"), (bad, "bad")):
                self._drive(tree, [*self._driver(), commit])
                found.why = self._trouble(commit, end, good)
                if found.why:
                    break
            else:
                found.remarks += self._overlap(good, bad)
                self._bisect(tree, good, bad, found)
        found.commits = self._measured(good, bad)
        self.ticker.clear()
        return found

    def _driver(self) -> list[str]:
        root = str(Path(rlwatch.__file__).parent.parent)
        # -P: a package of the same name in the repository that is searched is not ours.
        return [sys.executable, "-P", "-c", _DRIVER.format(root=root), str(self.place)]

    def _drive(self, tree: Path, *commands: list[str]) -> Ended:
        """Runs commands one after the other in the worktree, up to the first that fails."""
        unset = ["env", *(part for name in OF_A_HOOK for part in ("-u", name))]
        line = " && ".join(shlex.join([*unset, *command]) for command in commands)
        how = processes.run_one(Task(line, self.place, tree), self._tick)
        self._tick({})
        return how

    def _bisect(self, tree: Path, good: str, bad: str, found: Bisected) -> None:
        base = ["git", "-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false", "bisect"]
        start = [*base, "start", *self._options, bad, good]
        how = self._drive(tree, start, [*base, "run", *self._driver()])
        matches = _CULPRIT.findall(git(tree, "bisect", "log", check=False))
        sure = [commit for possible, commit in matches if not possible]
        if sure:
            found.first_bad = self._about(sure[0])
        elif matches:
            found.candidates = [self._about(commit) for _, commit in matches]
        else:
            said = processes.last_line(self.place / "stderr.log") or processes.last_line(self.place / "stdout.log")
            found.why = f"git bisect ended with exit code {how.code} ({said})"

    def _trouble(self, commit: str, end: str, good: str) -> str:
        """Why an end is not what it was said to be; "" where it is."""
        attempts = results(self.place, commit)
        verdict = verdict_of(self.plan, attempts)
        name = f"the {end} end, {commit[:10]},"
        if verdict == end:
            return ""
        if verdict is None:
            return f"{name} could not be measured ({processes.last_line(self.place / 'stderr.log')})"
        if verdict == "skip":
            reasons = dict.fromkeys(one.trouble for one in attempts if one.trouble)
            return f"{name} cannot be judged: {'; '.join(reasons) or 'its runs do not agree'}"
        value = middle(attempts)
        said = f"{name} is not {end}: {self.plan.metric} is {value}, where good is {self.plan.condition}"
        if end == "bad" and middle(results(self.place, good)) == value:
            said += "; it is the very same number at both ends: does the command run the worktree's code?"
        return said

    def _overlap(self, good: str, bad: str) -> list[str]:
        ends = [[one.value for one in results(self.place, end) if one.value is not None] for end in (good, bad)]
        if min(map(len, ends)) < 2 or max(map(min, ends)) > min(map(max, ends)):
            return []
        return ["the runs of the good and of the bad end overlap: more --repeats make a wrong turn less likely"]

    def _measured(self, good: str, bad: str) -> list[Measured]:
        """What was measured, oldest first."""
        order = [good, *git(self.where, "rev-list", "--reverse", "--topo-order", bad, f"^{good}").splitlines()]
        known = {file.stem for file in (self.place / "results").glob("*.json")}
        return [self._about(commit) for commit in order if commit in known]

    def _about(self, commit: str) -> Measured:
        attempts = results(self.place, commit)
        text = git(self.where, "show", "-s", "--format=%an%x00%as%x00%s", commit, check=False)
        author, date, subject = (text.split("\0") + ["", "", ""])[:3]
        files = git(self.where, "show", "--format=", "--name-only", "-m", "--first-parent", commit, check=False)
        return Measured(commit, author, date, subject, verdict_of(self.plan, attempts), attempts, files.splitlines())

    def _tick(self, running: Sequence[int] | dict[int, Running]) -> None:
        for file in sorted((self.place / "results").glob("*.json")):
            verdict: Verdict | None = (
                None if file.stem in self._told else verdict_of(self.plan, results(self.place, file.stem))
            )
            if verdict is not None:
                self._told.add(file.stem)
                self.ticker.say(f"rlwatch: {report.line(self._about(file.stem))}")
        if running and self.ticker.due:
            done = sum(len(results(self.place, commit)) for commit in self._told)
            left = processes.last_line(self.place / "stdout.log")
            self.ticker.show(f"{done} runs done; {left if left.startswith('Bisecting') else 'measuring'}")
