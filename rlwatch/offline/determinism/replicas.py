"""The replicas of a check: each runs in a folder of its own, but for those that an interrupted check has done."""

from __future__ import annotations

import hashlib
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlwatch.offline import processes, series
from rlwatch.offline.determinism.compare import Tolerance
from rlwatch.offline.processes import Ended, Running, Task
from rlwatch.offline.workplace import Ticker, key_of, read_json, write_json

PLACES = ("{out}", "{replica}", "{steps}")
"""What is filled in in the command and in `--log`; other braces are the command's own."""

_SKIPPED = {"node_modules", "site-packages", "build", "dist", "venv", "env", "__pycache__", "wandb", "mlruns"}
_OUTPUTS = {"output", "outputs", "log", "logs", "runs", "rlwatch_runs", "checkpoints", "results"}
_CODE = (".py", ".yaml", ".yml", ".toml")
_MOST_FILES = 20_000
_CHECK_SHARE = 20  # of the time that reading a growing log may take: one part in so many


@dataclass(frozen=True)
class Plan:
    """What is asked for.

    Attributes:
        command: with its places.
        metrics: canonical signals or the log's own keys; none for all that are logged.
        count: of replicas.
        cwd: where they run.
        steps: the last step that counts; None for all.
        tolerances: by metric, "" for the others.
        limit_s: seconds for one replica; None for no limit.
        workers: replicas at once.
        log: where the command logs, with its places; "" to look for it.
        signal_map: signal, or `step`, to the log's key.
    """

    command: str
    metrics: tuple[str, ...]
    count: int = 3
    cwd: Path = field(default_factory=Path.cwd)
    steps: int | None = None
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    limit_s: float | None = None
    workers: int = 1
    log: str = ""
    signal_map: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same for the same command: by it an interrupted check is found again."""
        return key_of(self.command, str(self.cwd), self.steps, self.log)

    def tolerance(self, metric: str) -> Tolerance:
        """Of a metric."""
        return self.tolerances.get(metric, self.tolerances.get("", Tolerance()))


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


def filled(text: str, plan: Plan, folder: Path, number: int, quote: bool = True) -> str:
    """The text with its places filled in."""
    out = str(folder / "out")
    values = (shlex.quote(out) if quote else out, str(number), "" if plan.steps is None else str(plan.steps))
    for name, value in zip(PLACES, values, strict=True):
        text = text.replace(name, value)
    return text


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


def fingerprint(cwd: Path) -> str:
    """Of the code below a folder, by names, sizes and times of its files, and of what the environment says to it."""
    from rlwatch.offline.audit.environment import VARIABLES

    said = hashlib.sha256(repr([(name, os.environ.get(name)) for name in VARIABLES]).encode())
    for number, path in enumerate(_code_files(cwd)):
        if number == _MOST_FILES:
            break
        try:
            stat = path.stat()
        except OSError:
            continue
        said.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "replace"))
    return said.hexdigest()


def _code_files(cwd: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(cwd):
        names[:] = sorted(name for name in names if name not in _SKIPPED | _OUTPUTS and name[0] != ".")
        yield from (Path(folder, file) for file in sorted(files) if file.endswith(_CODE))
