"""A recorded log as text: plain or gzip by its first bytes, any size, read in bounded memory."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

LINE_LIMIT = 32 * 2**20
"""Longest line kept, in characters: what is longer is no row of metrics, and would fill the memory."""
DOCUMENT_LIMIT = 512 * 2**20
"""Longest JSON document (`trainer_state.json`) that is parsed whole, in characters."""

_GZIP = b"\x1f\x8b"
_OTHER_BINARY = {
    b"\x28\xb5\x2f\xfd": ("zstd", "decompress it with `zstd -d`"),
    b"PK\x03\x04": ("zip", "unpack it"),
    b"BZh": ("bzip2", "decompress it with `bunzip2`"),
    b"\xfd7zXZ": ("xz", "decompress it with `unxz`"),
    b"PAR1": ("Parquet", "export its metrics as JSON lines"),
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class IngestError(Exception):
    """A log that cannot be read as a training run; its text is one sentence for the user."""


class Notes:
    """What reading met that is not a row: lines that are no JSON object, and an early end."""

    def __init__(self) -> None:
        self.bad_lines = 0
        self.first_bad = ""
        self.cut_short = False

    def bad(self, number: int, line: str) -> None:
        """Counts line `number` (from 1) as not understood, and keeps the first for quoting."""
        if not self.bad_lines:
            text = line[:200].strip()
            shown = text if len(text) <= 60 else text[:57] + "..."
            self.first_bad = f"line {number}: {shown!r}"
        self.bad_lines += 1


@contextmanager
def open_text(path: Path) -> Iterator[io.TextIOWrapper]:
    """Opens a log for reading as text lines; bytes that are not UTF-8 become U+FFFD.

    Raises `IngestError` where the file is missing, empty, binary, or compressed otherwise than by gzip, and
    when a read fails inside the `with` block.
    """
    try:
        with path.open("rb") as raw:
            yield _as_text(raw)
    except (gzip.BadGzipFile, zlib.error) as error:
        raise IngestError(f"its gzip data are corrupted ({error}): copy the file again") from error
    except EOFError as error:
        raise IngestError("its gzip data end too early: copy the file again") from error
    except OSError as error:
        raise IngestError(_reason(error)) from error


def _as_text(raw: io.BufferedReader) -> io.TextIOWrapper:
    packed = raw.peek(2).startswith(_GZIP)
    stream = gzip.GzipFile(fileobj=raw) if packed else raw
    head = stream.peek(4096)
    if not head:
        raise IngestError("the file is empty")
    for start, (kind, fix) in _OTHER_BINARY.items():
        if head.startswith(start):
            raise IngestError(f"it is a {kind} file, which cannot be read as it is: {fix}")
    encoding = "utf-16" if head.startswith(_UTF16) else "utf-8-sig"
    if b"\0" in head and encoding != "utf-16":
        raise IngestError("it is a binary file, not a text log")
    return io.TextIOWrapper(cast(IO[bytes], stream), encoding=encoding, errors="replace", newline="\n")


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


def rest_of(text: io.TextIOWrapper) -> str:
    """What is left of a JSON document; raises `IngestError` where that is over `DOCUMENT_LIMIT`."""
    rest = text.read(DOCUMENT_LIMIT + 1)
    if len(rest) > DOCUMENT_LIMIT:
        limit = DOCUMENT_LIMIT // 2**20
        raise IngestError(f"it is one JSON document of over {limit} MiB: convert it to JSON lines")
    return rest
