"""Has the reports of a run written, by a process of its own: the training process is not held up by it.

Making a page takes seconds of a processor. A thread of the training process would take them from the training thread,
since both share the interpreter; the other process has a lower priority, and a session of its own, so that it outlives
the training process. One at a time works for a run.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

EVERY = 10.0  # seconds at least between two rounds of pages that are brought up to date
NEEDED = "jinja2", "markdown_it"

# The package is looked for where this process has it, and not before other packages.
_CODE = "import sys; sys.path.append(sys.argv[1]); from rlwatch.report.background import main; main(sys.argv[2:])"
_ROOT = str(Path(__file__).resolve().parent.parent.parent)

EXIT_SHARE, EXIT_WAIT = 0.01, 10.0
"""At exit the last page is waited for this share of the run's time, and so many seconds, at most: where nothing may
outlive the process, as in a container, it would be lost."""


class Pages:
    """The pages of one run folder. Used by the writer thread alone.

    tell: gets a sentence where no page can be made.
    """

    def __init__(self, folder: Callable[[], Path], tell: Callable[[str], object]) -> None:
        self._folder, self._tell = folder, tell
        self._able: bool | None = None
        self._due: dict[Path, None] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._next = 0.0
        self._began = time.monotonic()

    def incident(self, home: Path | None) -> None:
        """The page of this incident is to be made, or brought up to date."""
        if home is not None:
            self._due[home] = None
            self.tick()

    def tick(self) -> None:
        """Begin what is due, unless a process is still at work."""
        if self._due and time.monotonic() >= self._next and (self._child is None or self._child.poll() is not None):
            self._next = time.monotonic() + EVERY
            self._start()

    def end(self) -> None:
        """The run is over: its own page, and those that are due."""
        self._due[self._folder()] = None
        if self._start() and self._child is not None:
            _LAST[self._child] = min(EXIT_WAIT, EXIT_SHARE * (time.monotonic() - self._began))

    def _start(self) -> bool:
        due, self._due = list(self._due), {}
        if self._able is None:
            missing = [name for name in NEEDED if find_spec(name) is None]
            self._able = not missing and bool(sys.executable)
            if missing:
                self._tell("report.html is not written: pip install 'rlwatch[report]', or Watch(report=False)")
        if not self._able:
            return False
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, _ROOT, *(str(path.absolute()) for path in due)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError, RuntimeError) as error:
            self._able = False
            self._tell(f"report.html is not written, no process can be started for it ({error!r})")
            return False
        return True


_LAST: dict[subprocess.Popen[bytes], float] = {}


def _wait() -> None:
    begin = time.monotonic()
    for child, patience in _LAST.items():
        with contextlib.suppress(subprocess.TimeoutExpired, OSError):
            child.wait(max(0.0, patience - (time.monotonic() - begin)))
        if child.returncode is None:
            child.returncode = 0  # it goes on alone; without this, Python warns that it does


def _forget() -> None:
    _LAST.clear()


atexit.register(_wait)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
