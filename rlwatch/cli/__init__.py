"""The `rlwatch` command."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence

__all__ = ["FAULT", "INTERRUPTED", "PIPE_CLOSED", "USAGE_ERROR", "main"]

USAGE_ERROR = 64  # EX_USAGE of sysexits.h; 0 to 3 are verdicts on runs
FAULT = 70  # EX_SOFTWARE: no verdict, so that a gate cannot take a fault of ours for one
INTERRUPTED = 130
PIPE_CLOSED = 141  # what a shell reports for SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line, by default the process's own, and returns its exit code."""
    try:
        from rlwatch.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "typer":
            raise
        print("rlwatch: the command line needs typer: pip install 'rlwatch[cli]'", file=sys.stderr)
        return USAGE_ERROR
    for stream in (sys.stdout, sys.stderr):
        # A log may hold characters that the terminal's encoding lacks.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    try:
        code = run(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`| head`) is gone: what is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - Python's own exit code, 1, is a verdict of many commands
        return _fault(error)
    return code


def _fault(error: Exception) -> int:
    """Says that there is no verdict, and why."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        print("rlwatch: there is no space left to write the report to", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAULT
    traceback.print_exception(error)
    name = type(error).__name__
    print(f"rlwatch: a fault of rlwatch ({name}): nothing was judged, please report it", file=sys.stderr)
    return FAULT
