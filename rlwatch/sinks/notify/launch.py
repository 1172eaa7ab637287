"""Starts the sender, and holds the line to it."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import rlwatch
from rlwatch.sinks.notify import sender

QUIETLY = getattr(socket, "MSG_NOSIGNAL", 0)
"""A line that is cut must not end a trainer that has set SIGPIPE back to its default."""


class Line:
    """The trainer's end of the socket. A byte says that there is a new record; that it closes, that the run is over."""

    def __init__(self, ours: socket.socket, listener: threading.Thread) -> None:
        self._ours, self._listener = ours, listener

    def ring(self) -> bool:
        """Wake the sender; False where it is gone. Never blocks."""
        if not self._listener.is_alive():
            return False
        try:
            self._ours.send(b"\n", socket.MSG_DONTWAIT | QUIETLY)
        except BlockingIOError:  # so many bytes wait that it will wake
            return True
        except OSError:
            return False
        return True

    def finish(self, timeout: float) -> bool:
        """The run is over: wait until the sender has sent all and ended, for `timeout` seconds at most."""
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)
        self._listener.join(timeout)
        return not self._listener.is_alive()


def launch(config: Mapping[str, Any], tell: Callable[[str], object]) -> Line:
    """Start a sender; raises OSError, or AttributeError on a system without Unix sockets.

    tell: gets a sentence about a target that cannot be reached, on another thread.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        root = str(Path(rlwatch.__file__).resolve().parents[1])
        code = sender.START.format(root=root, module=sender.__name__)
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],  # -P: a module of the user's folder is none of ours
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,  # `python train.py | tee log` ends with the trainer
            stderr=subprocess.DEVNULL,
        )
    ours.sendall(json.dumps(config).encode() + b"\n", QUIETLY)
    listener = threading.Thread(target=_listen, args=(ours, process, tell), name="rlwatch-sender-line", daemon=True)
    listener.start()
    return Line(ours, listener)


def _listen(ours: socket.socket, process: subprocess.Popen[bytes], tell: Callable[[str], object]) -> None:
    """Hears what the sender says until it ends."""
    process.wait()  # it has left its parent, and only this shell of it ends here
    with contextlib.suppress(OSError, ValueError), ours.makefile("rb") as lines:
        for line in lines:
            tell(json.loads(line)["trouble"])
