"""`rlwatch bisect`: both ends verified, `git bisect run` driven in a worktree, the result reported."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from rlwatch.offline.bisect import report
from rlwatch.offline.bisect.measure import results
from rlwatch.offline.bisect.plan import Attempt, Plan
from rlwatch.offline.bisect.search import Search
from rlwatch.offline.bisect.tree import GitError, clean_up, commit_of, common, git
from rlwatch.offline.processes import interruptible
from rlwatch.offline.ticker import Ticker
from rlwatch.offline.workplace import BusyError, workplace, write_json
from rlwatch.telling import RefusedError, as_json, printable

USAGE = 64


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
        raise RefusedError(str(error), USAGE) from error
    place = home / "rlwatch" / f"bisect-{plan.key}"
    try:
        with interruptible(), workplace(place):
            clean_up(where, place)
            _forget(place, plan, retry, fresh)
            write_json(place / "plan.json", plan.as_dict())
            found = Search(plan, where, place, ticker, first_parent).search(*ends)
    except (BusyError, GitError, OSError) as error:
        ticker.clear()
        raise RefusedError(f"not evaluated: {error}") from error
    except KeyboardInterrupt:
        ticker.say("rlwatch: interrupted: the worktree is removed; the same command goes on with the values measured")
        raise
    if form == "json":
        print(as_json({**report.as_dict(found), "folder": str(place)}, indent=2))
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
