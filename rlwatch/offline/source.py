"""A recorded log as bytes and as text: plain, gzip or zstd by its first bytes, any size, read in bounded memory."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

LINE_LIMIT = 32 * 2**20
"""Longest line kept, in characters: what is longer is no row of metrics, and would fill the memory."""
DOCUMENT_LIMIT = 512 * 2**20
"""Longest JSON document (`trainer_state.json`) that is parsed whole, in characters."""

HEAD = 64 * 2**10
"""Bytes by which a format is told."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_OTHER_BINARY = {
    b"PK\x03\x04": ("zip", "unpack it"),
    b"BZh": ("bzip2", "decompress it with `bunzip2`"),
    b"\xfd7zXZ": ("xz", "decompress it with `unxz`"),
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class IngestError(Exception):
    """A log that cannot be read as a training run; its text is one sentence for the user."""


class Notes:
    """What reading met that is not a row.

    Attributes:
        format: what the log was recognised as.
        bad_lines, first_bad: lines that are no row, and the first of them with its number.
        cut_short: whether the log ends within a row.
        remarks: sentences of a reader's own.
    """

    def __init__(self) -> None:
        self.format = ""
        self.bad_lines = 0
        self.first_bad = ""
        self.cut_short = False
        self.remarks: list[str] = []

    def bad(self, number: int, line: str) -> None:
        """Counts line `number` (from 1) as not understood, and keeps the first for quoting."""
        if not self.bad_lines:
            text = line[:200].strip()
            shown = text if len(text) <= 60 else text[:57] + "..."
            self.first_bad = f"line {number}: {shown!r}"
        self.bad_lines += 1


class Source:
    """A log's content, decompressed, to be read once from its start.

    Attributes:
        path: where it lies; only its name may serve as a hint.
        head: its first bytes, for telling the format: at least one, at most 64 KiB.
        stream: all of it, the head included.
        member: which of several runs in it is meant; "" for the only one.
    """

    def __init__(self, path: Path, stream: io.BufferedReader, member: str = "") -> None:
        self.path = path
        self.stream = stream
        self.member = member
        self.head = stream.peek(HEAD)[:HEAD]

    def text(self) -> io.TextIOWrapper:
        """The content as text; bytes that are not UTF-8 (or UTF-16 by its mark) become U+FFFD."""
        encoding = "utf-16" if self.head.startswith(_UTF16) else "utf-8-sig"
        if b"\0" in self.head and encoding != "utf-16":
            raise IngestError("it is a binary file, not a text log")
        return io.TextIOWrapper(cast(IO[bytes], self.stream), encoding=encoding, errors="replace", newline="\n")

    def lines(self, notes: Notes) -> Iterator[tuple[int, str]]:
        """The lines, each with its number from 1; one numbered 0 says that no more has come for the moment."""
        return lines(self.text(), notes)

    def wait(self) -> bool | None:
        """At the end of `stream`, if the log is followed: True when more has come, None when nothing has for a moment,
        False when this is the end.
        """
        return False


@contextmanager
def open_source(path: Path, member: str = "") -> Iterator[Source]:
    """Opens a log and decompresses gzip and zstd, known by their first bytes.

    Raises `IngestError` where the file is missing, empty, or packed otherwise, and when a read fails inside the
    `with` block.
    """
    try:
        with path.open("rb", buffering=HEAD) as raw:
            source = Source(path, _unpacked(raw), member)
            if not source.head:
                raise IngestError("the file is empty")
            yield source
    except (gzip.BadGzipFile, zlib.error) as error:
        raise IngestError(f"its gzip data are corrupted ({error}): copy the file again") from error
    except EOFError as error:
        raise IngestError("its gzip data end too early: copy the file again") from error
    except OSError as error:
        raise IngestError(_reason(error)) from error


def _unpacked(raw: IO[bytes]) -> io.BufferedReader:
    raw = cast(io.BufferedReader, raw)
    start = raw.peek(8)[:8]
    if start.startswith(_GZIP):
        return cast(io.BufferedReader, gzip.GzipFile(fileobj=raw))
    if start.startswith(_ZSTD):
        return io.BufferedReader(_zstd(raw), HEAD)
    for mark, (kind, fix) in _OTHER_BINARY.items():
        if start.startswith(mark):
            raise IngestError(f"it is a {kind} file, which cannot be read as it is: {fix}")
    return raw


def _zstd(raw: io.BufferedReader) -> io.RawIOBase:
    try:
        import zstandard
    except ImportError as error:
        raise IngestError("it is packed with zstd: pip install 'rlwatch[logs]' to read it") from error
    # A frame may ask for any amount of memory: 128 MiB is what `zstd --long` needs at most.
    plain = zstandard.ZstdDecompressor(max_window_size=128 * 2**20).stream_reader(raw, read_across_frames=True)
    return _Zstd(plain, zstandard.ZstdError)


class _Zstd(io.RawIOBase):
    """zstd's reader, its errors as sentences."""

    def __init__(self, plain: Any, error: type[Exception]) -> None:
        self._plain = plain
        self._error = error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return int(self._plain.readinto(buffer))
        except self._error as error:
            raise IngestError(f"its zstd data are corrupted ({error}): copy the file again") from error


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file or folder"
    if isinstance(error, PermissionError):
        return "there is no permission to read it"
    return f"it cannot be read ({os.strerror(error.errno) if error.errno else error})"


def lines(text: io.TextIOWrapper, notes: Notes) -> Iterator[tuple[int, str]]:
    """The lines that follow in a log, each with its number from 1.

    A line over `LINE_LIMIT` counts as bad. A gzip stream that ends early (a run still writing, or killed)
    ends the lines and sets `notes.cut_short`.
    """
    number = 0
    while line := _next_line(text, notes):
        number += 1
        if len(line) >= LINE_LIMIT and not line.endswith("\n"):
            notes.bad(number, line)
            while (line := _next_line(text, notes)) and not line.endswith("\n"):
                pass
            continue
        yield number, line


def _next_line(text: io.TextIOWrapper, notes: Notes) -> str:
    try:
        return text.readline(LINE_LIMIT)
    except EOFError:
        notes.cut_short = True
        return ""
