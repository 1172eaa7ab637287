"""What a monitor does at a critical: `stop PID`, `touch FILE`, `run COMMAND`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rlwatch.alert import Alert
from rlwatch.sinks.jsonl import clean

PATIENCE_S = 10.0
"""Seconds that commands still running at the end are waited for."""


class ActionError(ValueError):
    """An action that cannot be; its text is one sentence."""


class Process:
    """A process of this machine, told apart from a later one of the same number."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._started = _start_of(pid)
        if pid < 2 or not self.alive:
            raise ActionError(f"there is no process {pid} that could be stopped")

    @property
    def alive(self) -> bool:
        """Whether it still runs; one that has ended and waits for its parent does not."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return _start_of(self.pid) == self._started and not _is_zombie(self.pid)

    def stop(self) -> str:
        """Asks it to end (SIGTERM); what was done, in words."""
        if not self.alive:
            return f"process {self.pid} had ended already"
        try:
            os.kill(self.pid, signal.SIGTERM)
        except OSError as error:
            return f"process {self.pid} could not be stopped ({error.strerror})"
        return f"process {self.pid} was asked to stop (SIGTERM)"


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold spaces; [] where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _start_of(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def _is_zombie(pid: int) -> bool:
    return _stat(pid)[:1] == ["Z"]


class Actions:
    """The actions of a command line; each is done for every critical alert.

    Raises `ActionError` for one that is not understood.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.processes: list[Process] = []
        self._files: list[Path] = []
        self._commands: list[str] = []
        self._running: list[subprocess.Popen[bytes]] = []
        for text in texts:
            kind, _, rest = text.strip().partition(" ")
            if kind == "stop" and rest.strip().isdecimal():
                self.processes.append(Process(int(rest)))
            elif kind == "touch" and rest.strip():
                self._files.append(Path(rest.strip()))
            elif kind == "run" and rest.strip():
                self._commands.append(rest)
            else:
                raise ActionError(f"--on-critical {text!r} is none of 'stop PID', 'touch FILE', 'run COMMAND'")

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self.processes or self._files or self._commands)

    def take(self, alert: Alert) -> list[str]:
        """Does them all; what was done, a sentence each."""
        told = json.dumps(clean(alert.as_dict()), allow_nan=False) + "\n"
        said = [process.stop() for process in self.processes]
        for file in self._files:
            try:
                with file.open("a", encoding="utf-8") as out:
                    out.write(told)
                said.append(f"{file} was written")
            except OSError as error:
                said.append(f"{file} could not be written ({error.strerror})")
        return said + [self._run(command, alert, told) for command in self._commands]

    def _run(self, command: str, alert: Alert, told: str) -> str:
        """Starts a command with the alert on its standard input and in its environment; does not wait for it."""
        facts = {
            "ALERT_DETECTOR": alert.detector,
            "ALERT_SEVERITY": alert.severity.value,
            "ALERT_STEP": str(alert.step),
            "ALERT_MESSAGE": alert.message.replace("\0", ""),
        }
        try:
            process = subprocess.Popen(command, shell=True, stdin=subprocess.PIPE, env={**os.environ, **facts})
            assert process.stdin is not None
            with contextlib.suppress(OSError), process.stdin as pipe:  # a command need not read it
                pipe.write(told.encode())
        except OSError as error:
            return f"`{command}` could not be started ({error.strerror})"
        self._running.append(process)
        return f"`{command}` was started"

    def finish(self) -> list[str]:
        """Waits for the commands that still run; a sentence for each that failed or takes too long."""
        said = []
        for process in self._running:
            try:
                if process.wait(PATIENCE_S):
                    said.append(f"`{process.args!s}` failed with exit code {process.returncode}")
            except subprocess.TimeoutExpired:
                said.append(f"`{process.args!s}` still runs")
        return said
