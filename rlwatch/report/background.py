"""What the process does that `rlwatch.sinks.pages` starts: it writes the pages of the folders that it is given."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Sequence
from pathlib import Path

NICE = 10
FAILED = "report-failed.txt"


def main(folders: Sequence[str]) -> None:
    """Writes `report.html` into each: a run's folder, or an incident's. What fails is told in a file beside it."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(NICE)
    for folder in map(Path, folders):
        try:
            _write(folder)
        except Exception:  # noqa: BLE001 - nobody hears an exception here
            with contextlib.suppress(OSError):
                (folder / FAILED).write_text(traceback.format_exc(), encoding="utf-8", errors="replace")
        else:
            with contextlib.suppress(OSError):
                (folder / FAILED).unlink(missing_ok=True)


def _write(folder: Path) -> None:
    from rlwatch.report.incident_page import is_incident, write_incident_report
    from rlwatch.report.write import NAME, read_run, write_run_report

    if is_incident(folder):
        write_incident_report(folder)
    else:
        write_run_report(read_run(folder), folder / NAME)
