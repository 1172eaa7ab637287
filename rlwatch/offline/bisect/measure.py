"""Measuring one commit: the command is run at it, until the verdict stands; all values are kept.

Run by `git bisect run` in the worktree, as a process of its own.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlwatch.offline import processes, series
from rlwatch.offline.bisect import tree as trees
from rlwatch.offline.bisect.plan import Attempt, Plan, Verdict, decide
from rlwatch.offline.processes import Ended, Task
from rlwatch.offline.workplace import read_json, write_json

CODES: dict[Verdict, int] = {"good": 0, "bad": 1, "skip": 125}
ABORT = 128
"""From here on `git bisect run` ends."""


def results(place: Path, commit: str) -> list[Attempt]:
    """The attempts that were made at a commit."""
    try:
        return [Attempt(**one) for one in read_json(place / "results" / f"{commit}.json").get("attempts", [])]
    except TypeError:
        return []


def verdict_of(plan: Plan, attempts: list[Attempt]) -> Verdict | None:
    """The verdict of what was kept: that of the first attempts by which it stands."""
    for count in range(1, len(attempts) + 1):
        verdict = decide(plan, attempts[:count])
        if verdict is not None:
            return verdict
    return None


def measure(plan: Plan, place: Path, tree: Path, commit: str) -> Verdict:
    """The verdict on the commit that is checked out in `tree`; runs only what is still needed for it."""
    attempts = results(place, commit)
    while (verdict := verdict_of(plan, attempts)) is None:
        attempts.append(_attempt(plan, place, tree, commit, len(attempts)))
        write_json(place / "results" / f"{commit}.json", {"attempts": [asdict(one) for one in attempts]})
    return verdict


def _attempt(plan: Plan, place: Path, tree: Path, commit: str, number: int) -> Attempt:
    """Runs the command once, in a clean worktree."""
    trees.spotless(tree)
    cwd = tree / plan.prefix
    if not cwd.is_dir():
        return Attempt(None, f"there is no folder {plan.prefix} in this commit")
    folder = place / "runs" / f"{commit[:12]}-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    out = folder / "out"
    out.mkdir(parents=True)
    command = plan.command.replace("{out}", shlex.quote(str(out))).replace("{seed}", str(number))
    env = {"RLWATCH_OUT": str(out), "RLWATCH_SEED": str(number), "RLWATCH_COMMIT": commit}
    env |= {"RLWATCH_RUNS_DIR": str(out / "rlwatch_runs"), "PYTHONPATH": _path(tree)}
    task = Task(command, folder, cwd, env, plan.limit_s)
    how = processes.run_one(task)
    value, trouble = _value(plan, how, folder, cwd)
    shutil.rmtree(out, ignore_errors=True)  # checkpoints of every commit would fill the disk
    return Attempt(value, trouble, how.seconds, how.why == "limit")


def _path(tree: Path) -> str:
    """The commit's own code first: a package that is installed as editable would come from the user's checkout."""
    own = [str(tree / "src")] if (tree / "src").is_dir() else []
    given = os.environ.get("PYTHONPATH")
    return os.pathsep.join([*own, str(tree), *([given] if given else [])])


def _value(plan: Plan, how: Ended, folder: Path, cwd: Path) -> tuple[float | None, str]:
    """The mean of the window, or the reason why there is none."""
    if not how.ok:
        return None, how.sentence(folder)
    log = plan.log.replace("{out}", str(folder / "out"))
    try:
        found = series.find(folder / "out", folder, (plan.metric,), plan.signal_map, str(cwd / log) if log else "")
    except series.SeriesError as error:
        return None, str(error)
    values = [found.values.get(plan.metric, {})[key] for key in sorted(found.values.get(plan.metric, {}))]
    if not values:
        others = ", ".join(list(found.values)[:8]) or "nothing else"
        return None, f"{plan.metric} never appears in {found.place}: it has {others}"
    if len(values) < plan.window:
        return None, f"it logged {plan.metric} {len(values)} times, and --window asks for {plan.window}"
    last = values[-plan.window :]
    return (statistics.fmean(last) if all(map(math.isfinite, last)) else math.nan), ""


def main(args: list[str]) -> int:
    """`PLACE [COMMIT]`, in the worktree: measures the commit, checked out if named; git's code for its verdict."""
    for name in trees.OF_A_HOOK:
        os.environ.pop(name, None)
    place, tree = Path(args[0]), Path.cwd()
    values: dict[str, Any] = read_json(place / "plan.json")
    try:
        with processes.interruptible():
            if len(args) > 1:
                trees.git(tree, "checkout", "--quiet", "--force", "--detach", args[1])
            commit = trees.git(tree, "rev-parse", "HEAD")
            (place / "now").write_text(commit)
            return CODES[measure(Plan(**values), place, tree, commit)]
    except (trees.GitError, OSError) as error:
        print(f"rlwatch: {error}", file=sys.stderr)
        return ABORT
    except KeyboardInterrupt:
        return ABORT + 2
