"""The search itself: both ends measured, then what git asks for."""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import rlwatch
from rlwatch.offline import processes
from rlwatch.offline.bisect import report
from rlwatch.offline.bisect.measure import results, verdict_of
from rlwatch.offline.bisect.plan import Plan, middle, parsed
from rlwatch.offline.bisect.report import Bisected, Measured
from rlwatch.offline.bisect.tree import OF_A_HOOK, git, worktree
from rlwatch.offline.processes import Ended, Running, Task
from rlwatch.offline.ticker import Ticker

_NEAR = 0.1
"""Distance to the threshold, as a share of that between the ends, that is too near to be sure."""

_CULPRIT = re.compile(r"^# (possible )?first bad commit: \[([0-9a-f]{40,64})\]", re.MULTILINE)
_DRIVER = """
import sys
sys.path.insert(0, {root!r})
from rlwatch.offline.bisect.measure import main
sys.exit(main(sys.argv[1:]))
"""


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
        found.remarks += self._close(good, bad, found.commits)
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

    def _close(self, good: str, bad: str, commits: Sequence[Measured]) -> list[str]:
        """Commits so near to the threshold that noise may have put them on either side of it."""
        ends = [middle(results(self.place, end)) for end in (good, bad)]
        threshold = parsed(self.plan.condition)[1]
        gap = abs(ends[0] - ends[1]) if ends[0] is not None and ends[1] is not None else math.nan
        values = {one.commit[:10]: middle(one.attempts) for one in commits if one.verdict in ("good", "bad")}
        near = [name for name, x in values.items() if x is not None and abs(x - threshold) < _NEAR * gap]
        if not near:
            return []
        return [f"near the threshold, where noise decides: {', '.join(near[:4])}; more --repeats, or another --cmp"]

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

    def _tick(self, running: Mapping[int, Running]) -> None:
        files = (self.place / "results").glob("*.json")
        for commit in sorted({file.stem for file in files} - self._told):
            if verdict_of(self.plan, results(self.place, commit)) is not None:
                self._told.add(commit)
                self.ticker.say(f"rlwatch: {report.line(self._about(commit))}")
        if running and self.ticker.due:
            done = sum(len(results(self.place, commit)) for commit in self._told)
            left = processes.last_line(self.place / "stdout.log")
            self.ticker.show(f"runs done: {done}; {left if left.startswith('Bisecting') else 'measuring'}")
