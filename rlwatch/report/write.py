"""Writing reports to files."""

from __future__ import annotations

from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from urllib.parse import quote

from rlwatch.report.data import RunData
from rlwatch.report.folder import incident_folders, is_run_folder, read_folder
from rlwatch.sinks.files import replace
from rlwatch.sinks.pages import NEEDED

NAME = "report.html"


def read_run(path: str | PathLike[str], preset: str | None = None, signal_map: dict[str, str] | None = None) -> RunData:
    """The run in a run folder of ours, or in any log that `rlwatch scan` reads.

    Raises:
        ReportError: it cannot be read, or holds no step.
        ConfigError: there is no such preset or signal.
    """
    if is_run_folder(Path(path)) and not signal_map:
        return read_folder(path)
    from rlwatch.report.replayed import read_log

    return read_log(str(path), preset, signal_map)


def require_extra() -> None:
    """Raises ModuleNotFoundError with what to install, where no page can be made. (Bokeh alone may be missing.)"""
    for name in NEEDED:
        if find_spec(name) is None:
            raise ModuleNotFoundError("reports need Jinja2, Bokeh and more: pip install 'rlwatch[report]'", name=name)


def write_run_report(run: RunData, out: Path) -> Path:
    """Put the report of a run at `out`, in one move; raises OSError and ModuleNotFoundError (`rlwatch[report]`)."""
    from rlwatch.report.page import render

    replace(out, render(run, links=_links(out.parent)).encode("utf-8", "replace"))
    return out


def _links(place: Path) -> list[tuple[str, str]]:
    """The pages of the incidents beside a report in its run's folder."""
    homes = incident_folders(place) if is_run_folder(place) else []
    return [(home.name, f"incidents/{quote(home.name)}/{NAME}") for home in homes if (home / NAME).is_file()]
