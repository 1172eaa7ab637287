"""The replicas of a check: each runs in a folder of its own, but for those that an interrupted check has done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlwatch.offline import processes, series
from rlwatch.offline.determinism.plan import Plan, filled
from rlwatch.offline.processes import Ended, Running, Task
from rlwatch.offline.ticker import Ticker
from rlwatch.offline.workplace import read_json, write_json

_CHECK_SHARE = 20  # of the time that reading a growing log may take: one part in so many


@dataclass
class Replica:
    """One run of the command.

    Attributes:
        number: from 0.
        folder: its own; `out/` in it is the command's.
        ended: how.
        reused: whether it was done before, by a check that was interrupted.
        logged: its log; None where there is none.
        trouble: why it does not count, one sentence; "" where it does.
    """

    number: int
    folder: Path
    ended: Ended
    reused: bool = False
    logged: series.Logged | None = None
    trouble: str = ""


def run_all(plan: Plan, place: Path, ticker: Ticker) -> list[Replica]:
    """Runs the replicas that are not done, and reads the logs of all. After one that fails no other is started."""
    done = {number: how for number in range(plan.count) if (how := _done_before(place, number))}
    if done:
        ticker.say(f"rlwatch: {_numbers(done)} done before: not run again (--fresh runs all)")
    due = [number for number in range(plan.count) if number not in done]
    replicas = {number: Replica(number, folder_of(place, number), how, True) for number, how in done.items()}

    def ended(index: int, how: Ended) -> bool:
        number = due[index]
        write_json(folder_of(place, number) / "replica.json", asdict(how))
        replicas[number] = Replica(number, folder_of(place, number), how)
        said = "" if how.ok else f": {how.sentence(folder_of(place, number))}"
        ticker.say(f"rlwatch: replica {number} took {how.seconds:.1f} s{said}")
        return how.ok

    def tick(running: Mapping[int, Running]) -> None:
        if ticker.due and running:
            index, one = next(iter(running.items()))
            line = processes.last_line(one.task.folder / "stdout.log")
            ticker.show(f"replica {due[index]} ({len(replicas)} of {plan.count} done), {one.seconds:.0f} s: {line}")

    processes.run([task(plan, place, number) for number in due], plan.workers, ended, tick)
    ticker.clear()
    for replica in replicas.values():
        _read(plan, replica)
    return [replicas[number] for number in sorted(replicas)]


def _numbers(numbers: Mapping[int, Any]) -> str:
    if len(numbers) == 1:
        return f"replica {next(iter(numbers))} was"
    return f"replicas {', '.join(map(str, numbers))} were"


def folder_of(place: Path, number: int) -> Path:
    """Where a replica runs."""
    return place / f"replica-{number}"


def _done_before(place: Path, number: int) -> Ended | None:
    values = read_json(folder_of(place, number) / "replica.json")
    try:
        ended = Ended(**values)
    except TypeError:
        return None
    return ended if ended.ok else None


def task(plan: Plan, place: Path, number: int) -> Task:
    """What runs one replica; its folder is made empty."""
    folder = folder_of(place, number)
    empty(folder)
    out = folder / "out"
    out.mkdir(parents=True)
    env = {"RLWATCH_REPLICA": str(number), "RLWATCH_OUT": str(out), "RLWATCH_RUNS_DIR": str(out / "rlwatch_runs")}
    if plan.steps is not None:
        env["RLWATCH_STEPS"] = str(plan.steps)
    enough = _Reached(plan, number, folder) if plan.steps is not None else None
    return Task(filled(plan.command, plan, folder, number), folder, plan.cwd, env, plan.limit_s, enough)


def empty(folder: Path) -> None:
    """Takes away what an earlier run left in a folder."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


class _Reached:
    """Whether a replica has logged all metrics beyond the last step that counts."""

    def __init__(self, plan: Plan, number: int, folder: Path) -> None:
        self._plan, self._folder = plan, folder
        self._log = filled(plan.log, plan, folder, number, quote=False)
        self._next = time.monotonic() + 1.0

    def __call__(self) -> bool:
        begun = time.monotonic()
        if begun < self._next or self._plan.steps is None:
            return False
        wanted = self._plan.metrics
        try:
            found = series.find(self._folder / "out", self._folder, wanted, self._plan.signal_map, self._log)
        except series.SeriesError:
            return False
        finally:
            now = time.monotonic()
            self._next = now + max(1.0, _CHECK_SHARE * (now - begun))
        return found.last_step > self._plan.steps and all(name in found.values for name in wanted)


def _read(plan: Plan, replica: Replica) -> None:
    """Fills in the log, or the trouble."""
    if not replica.ended.ok:
        replica.trouble = replica.ended.sentence(replica.folder)
        return
    log = filled(plan.log, plan, replica.folder, replica.number, quote=False)
    try:
        path = plan.cwd / log
        if log and path.exists() and path.stat().st_mtime < replica.ended.started - 1:
            replica.trouble = f"{log} is older than the replica, which did not write it"
            return
        found = series.find(
            replica.folder / "out", replica.folder, plan.metrics, plan.signal_map, str(path) if log else ""
        )
    except series.SeriesError as error:
        replica.trouble = str(error)
        return
    replica.logged = found
    if plan.steps is not None and found.last_step + 1 < plan.steps:
        replica.trouble = f"its log ends at step {found.last_step}, before --steps {plan.steps}"
