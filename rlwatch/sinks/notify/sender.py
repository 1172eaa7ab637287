"""The sender: a process of its own that delivers a run's outbox while the run goes on, and after it.

The trainer starts it and holds the other end of its socket, through which come the settings (a line of JSON, since
a command line and a file can be read by others) and a byte for each new record. It belongs to no terminal and to no
parent, and ends when the trainer is gone and all is delivered, or after LINGER_S.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import time
from pathlib import Path
from types import FrameType
from typing import Any

from rlwatch.sinks.notify.delivery import Delivery
from rlwatch.sinks.notify.outbox import Outbox, Record, gone_record
from rlwatch.sinks.notify.targets import Target

LINGER_S = 3600.0
"""Seconds after the run's end for which a target that cannot be reached is tried; then `rlwatch deliver` is left."""
DELETED_S = 60.0
"""The same where the run's folder was deleted."""
ASKED_S = 25.0
"""Seconds that are left once the sender is asked to end: Slurm and Kubernetes kill after 30."""
LOOK_S = 5.0
START = """
import os, sys
os.fork() and os._exit(0)
os.setsid()
sys.path.insert(0, {root!r})
import {module} as sender
sender.main()
"""
"""What Python runs. It leaves its parent before anything else: who ends the trainer's children does not find it."""


class Trainer:
    """The process at the other end of the socket."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self._pid, self._line = pid, line
        self.closed = False
        self.gone = False
        self._handle: int | None = None
        try:
            self._handle = os.pidfd_open(pid)  # Linux: it tells the end at once, and is no other process later
        except ProcessLookupError:
            self.gone = True
        except (AttributeError, OSError):
            pass

    def wait(self, seconds: float) -> None:
        """Wait until there is news, `seconds` at most."""
        handles: list[Any] = [] if self._handle is None else [self._handle]
        handles += [] if self.closed else [self._line]
        ready, _, _ = select.select(handles, [], [], 0 if self.gone else seconds)
        if self._line in ready:
            self._take()
        self.gone = self.gone or self._handle in ready or not self._alive()

    def say(self, sentence: str) -> None:
        """Tell the trainer, if it still listens."""
        with contextlib.suppress(OSError):
            self._line.send(json.dumps({"trouble": sentence}).encode() + b"\n")

    def _take(self) -> None:
        try:
            self.closed = not self._line.recv(4096)
        except OSError:
            self.closed = True

    def _alive(self) -> bool:
        if self._handle is not None:
            return True
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


def main() -> None:
    """The process: standard input is the socket."""
    line = socket.socket(fileno=os.dup(0))
    config = json.loads(_first_line(line))
    os.chdir("/")
    os.nice(5)
    for number in (signal.SIGINT, signal.SIGHUP):  # meant for the trainer
        signal.signal(number, signal.SIG_IGN)
    asked: list[float] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(time.monotonic())

    signal.signal(signal.SIGTERM, ask)
    trainer = Trainer(config["pid"], line)
    try:
        _serve(config, trainer, asked)
    except Exception as error:  # noqa: BLE001 - nobody else is there to say it
        trainer.say(f"the sender failed ({error!r})")
    os._exit(0)  # a lane may hang in a connection


def _serve(config: dict[str, Any], trainer: Trainer, asked: list[float]) -> None:
    outbox = Outbox(Path(config["outbox"]))
    while not outbox.acquire():  # of an earlier process of the run, or `rlwatch deliver`
        trainer.wait(0.5)
        if asked or trainer.gone:
            return  # who has the lock goes on
    targets = [Target.model_validate(target) for target in config["targets"]]
    every, report_url = float(config["every"]), config["report_url"]
    delivery = Delivery(outbox, targets, config["run"], every=every, report_url=report_url, tell=trainer.say)
    delivery.start()
    while not (trainer.gone or trainer.closed or asked or _ended(delivery.records, config["process"])):
        trainer.wait(LOOK_S)
        delivery.poll()
    if trainer.gone and not _ended(delivery.records, config["process"]):
        outbox.add(gone_record(config))
    _finish(delivery, trainer, asked, outbox.folder)
    if delivery.complete:
        outbox.release()
        if config["temporary"]:
            shutil.rmtree(outbox.folder, ignore_errors=True)


def _finish(delivery: Delivery, trainer: Trainer, asked: list[float], folder: Path) -> None:
    """Send the rest. Who was asked to end uses the time that is left, since the trainer may still have a word."""
    delivery.hurry()
    start = time.monotonic()
    while time.monotonic() < (asked[0] + ASKED_S if asked else start + (LINGER_S if folder.exists() else DELETED_S)):
        with contextlib.suppress(OSError):
            delivery.poll()
        if delivery.settle(0.2) and not (asked and not trainer.closed and not trainer.gone):
            return
        trainer.wait(0)


def _ended(records: list[Record], process: str) -> bool:
    return any(record.get("kind") == "end" and record.get("process") == process for record in records)


def _first_line(line: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        piece = line.recv(1)
        if not piece:
            raise SystemExit(0)
        data += piece
    return data
