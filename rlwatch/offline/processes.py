"""Running a user's commands: several at once, limited in time, and ended with all that they started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal

from rlwatch.offline import jobs

LEFT_S = 3.0
"""Seconds that processes which outlive their command have to end by themselves."""

_POLL_S = 0.05


@dataclass(frozen=True)
class Task:
    """A command of the shell, and where and how it runs.

    Attributes:
        command: for bash, where a failure anywhere in a pipe counts (`train.py | tee log`), or without bash for sh.
        folder: its own; `stdout.log` and `stderr.log` go there.
        cwd: its working directory.
        env: added to the environment.
        limit_s: seconds after which it is ended; None for none.
        enough: asked now and then whether it has done enough, and is to be ended as finished.
    """

    command: str
    folder: Path
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    limit_s: float | None = None
    enough: Callable[[], bool] | None = None


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        why: `exit` by itself, `limit` out of time, `enough` ended by us as finished.
        code: of `exit`; negative for the signal that killed it.
        started: seconds since the epoch.
        seconds: that it took.
    """

    why: Literal["exit", "limit", "enough"]
    code: int
    started: float
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it finished."""
        return self.why == "enough" or (self.why == "exit" and self.code == 0)

    def sentence(self, folder: Path) -> str:
        """What went wrong, with the last line that the command wrote to its stderr."""
        if self.why == "limit":
            return f"it was ended after {self.seconds:.0f} s, its limit"
        number = -self.code if self.code < 0 else self.code - 128  # a shell says it so
        if number in set(signal.Signals):
            memory = ", for want of memory perhaps" if number == signal.SIGKILL else ""
            how = f"it was killed by {signal.Signals(number).name}{memory}"
        else:
            how = f"it failed with exit code {self.code}"
        last = last_line(folder / "stderr.log")
        return f"{how} ({last})" if last else how


def _by_shell(command: str) -> list[str]:
    bash = shutil.which("bash")
    return [bash, "-o", "pipefail", "-c", command] if bash else ["/bin/sh", "-c", command]


class Running:
    """A command under way."""

    def __init__(self, task: Task) -> None:
        self.task = task
        task.folder.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, **task.env, jobs.JOB: str(task.folder)}
        self.started = time.time()
        self._begun = time.monotonic()
        with (task.folder / "stdout.log").open("wb") as out, (task.folder / "stderr.log").open("wb") as err:
            self._process = subprocess.Popen(
                _by_shell(task.command), cwd=task.cwd, env=env, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            )  # fmt: skip

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self._begun

    def poll(self) -> Ended | None:
        """How it ended, once all of it has; None while it runs."""
        code = self._process.poll()
        if code is not None:
            self._wait_for_the_rest()
            return self._ended("exit", code)
        if self.task.limit_s is not None and self.seconds >= self.task.limit_s:
            self.end()
            return self._ended("limit", 0)
        if self.task.enough is not None and self.task.enough():
            self.end()
            return self._ended("enough", 0)
        return None

    def _ended(self, why: Literal["exit", "limit", "enough"], code: int) -> Ended:
        return Ended(why, code, self.started, self.seconds)

    def _wait_for_the_rest(self) -> None:
        until = time.monotonic() + LEFT_S
        while time.monotonic() < until and jobs.members(self.task.folder):
            time.sleep(_POLL_S)
        jobs.end_all(self.task.folder)

    def end(self) -> None:
        """Ends it with all that it started: SIGTERM, and SIGKILL for what is left."""
        try:
            if not jobs.KNOWN:
                jobs.tell_group(self._process.pid, signal.SIGTERM)
            jobs.end_all(self.task.folder, lambda: self._process.poll() is None)
        finally:
            jobs.tell_group(self._process.pid, signal.SIGKILL)
            self._process.wait()


def run(tasks: Sequence[Task], workers: int, ended: Callable[[int, Ended], bool], tick: Callable[..., None]) -> None:
    """Runs commands, `workers` of them at once; `ended` gets the number of each with how it ended.

    Where it is false, no more are started. `tick` is called with what runs, by number, about twenty times a second.
    When anything is raised, Ctrl-C included, all that runs is ended first.
    """
    waiting = list(enumerate(tasks))
    running: dict[int, Running] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                number, task = waiting.pop(0)
                running[number] = Running(task)
            for number, one in list(running.items()):
                done = one.poll()
                if done is not None:
                    del running[number]
                    if not ended(number, done):
                        waiting.clear()
            tick(running)
            time.sleep(_POLL_S)
    finally:
        for one in running.values():
            one.end()


def run_one(task: Task, tick: Callable[..., None] = lambda _: None) -> Ended:
    """Runs one command; how it ended."""
    how: list[Ended] = []

    def ended(number: int, one: Ended) -> bool:
        how.append(one)
        return True

    run([task], 1, ended, tick)
    return how[0]


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that what runs is ended, too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def last_line(path: Path, longest: int = 160) -> str:
    """The last line of a text file that is not blank, cut to `longest` characters; "" where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:longest] for line in reversed(lines) if line.strip()), "")
