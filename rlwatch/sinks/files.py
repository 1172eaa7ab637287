"""The files of a run folder: appended in whole lines, replaced in one move."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from pathlib import Path

TAIL = 1 << 20  # bytes searched for the last line end
LOOK = 1.0  # seconds between two looks at whether a file was deleted; each gives up the GIL
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class AppendFile:
    """A file that grows by whole lines, one `write` call each time, and is readable at any moment.

    A process killed between two calls leaves whole lines. Opened again after a kill inside one, the file
    first loses the fragment at its end, so that every line in it stays strict JSON.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._look_at = 0.0

    def append(self, data: bytes) -> None:
        """Add `data`, whole lines; raises OSError and leaves the file as it was when the disk refuses."""
        fd = self._open()
        left = data
        try:
            while left:
                left = left[os.write(fd, left) :]
        except OSError:
            if len(left) < len(data):  # a disk that filled half-way
                os.ftruncate(fd, os.fstat(fd).st_size - (len(data) - len(left)))
            raise

    def sync(self) -> None:
        """Wait until what was appended is on the disk; raises OSError."""
        if self._fd is not None:
            os.fsync(self._fd)

    def close(self) -> None:
        """Give up the descriptor; a later `append` opens the file again."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        now = time.monotonic()
        if self._fd is not None and now >= self._look_at:
            self._look_at = now + LOOK
            if not os.fstat(self._fd).st_nlink:
                self.close()  # deleted: what is written to the old descriptor vanishes without an error
        if self._fd is None:
            self._fd = os.open(self.path, _FLAGS, 0o644)
            _mend(self._fd)
        return self._fd


def _mend(fd: int) -> None:
    """Terminate a last line that is whole; cut one that is not."""
    size = os.fstat(fd).st_size
    start = max(0, size - TAIL)
    os.lseek(fd, start, os.SEEK_SET)
    tail = os.read(fd, size - start) if size else b"\n"
    if tail.endswith(b"\n"):
        return
    cut = tail.rfind(b"\n") + 1
    if _is_json(tail[cut:]) or (cut == 0 and start > 0):
        os.write(fd, b"\n")
    else:
        os.ftruncate(fd, start + cut)


def _is_json(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)  # "12" may be the first half of "123"
    except ValueError:
        return False


def replace(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one move: a reader sees the old file or the new one. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")  # no other writer's
    try:
        draft.write_bytes(data)
        os.replace(draft, path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def new_run_id() -> str:
    """UTC time and four random hex digits. Not from `random`, which ranks seed alike and users rely on."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.urandom(2).hex()}"


def safe_name(name: str) -> str:
    """A name that is one folder on any system."""
    return re.sub(r"[^\w.=+-]+", "-", str(name)).strip(".-")[:120] or "run"


def make_run_folder(runs_dir: Path, run_id: str, resume: bool) -> Path:
    """`runs_dir/run_id`; unless `resume`, one that did not exist before, under another id if need be."""
    folder = runs_dir / run_id
    if resume:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    runs_dir.mkdir(parents=True, exist_ok=True)
    for _ in range(100):
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            folder = runs_dir / new_run_id()
    raise FileExistsError(f"no free run id in {runs_dir}")


def make_free_folder(parent: Path, name: str) -> Path:
    """`parent/name`, or `name-2`, `name-3`, ... when a resumed run has been there before."""
    parent.mkdir(exist_ok=True)
    for count in range(1, 100):
        folder = parent / (name if count == 1 else f"{name}-{count}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise FileExistsError(f"{parent / name} and 98 others exist")
