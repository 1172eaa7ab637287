"""The pages, made when they are asked for and kept until the run's record has changed."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from rlwatch.report.data import ReportError
from rlwatch.report.folder import incident_folders, read_folder
from rlwatch.report.incident_page import is_incident, render_incident
from rlwatch.report.page import finish, render
from rlwatch.report.server.catalogue import Catalogue, Entry, stamp_of, strange_file

KEPT = 16
REST = 5.0  # times the seconds that a page took for which it is not made again: at most a sixth of a core goes there


@dataclass
class _Kept:
    text: str
    stamp: str
    made: float
    took: float


class Pages:
    """All pages of a server. From any thread; one page is made at a time."""

    def __init__(self, top: Path) -> None:
        self.catalogue = Catalogue(top)
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def index(self) -> str:
        """The list of runs."""
        entries = list(self.catalogue.entries().values())
        context = {"title": f"Runs in {self.catalogue.top}", "entries": entries, "top": self.catalogue.top, "room": 1.0}
        context |= {"addresses": {entry.name: address(entry.name) for entry in entries}, "now": time.time()}
        return finish("index.html", context, live={"state": "/state", "home": "/"})

    def index_state(self) -> dict[str, object]:
        """What tells whether the list has changed."""
        entries = self.catalogue.entries()
        text = repr([(entry.name, entry.stamp, entry.run.life) for entry in entries.values()])
        return {"stamp": _digest(text), "running": any(entry.run.life == "running" for entry in entries.values())}

    def run(self, name: str) -> str | None:
        """A run's report; None where there is no such run. Raises `ReportError`."""
        entry = self.catalogue.find(name)
        if entry is None:
            return None
        with self._lock:
            kept, wanted = self._kept.get(name), self._stamp(entry)
            if kept is None or kept.stamp != wanted:
                begin = time.monotonic()
                text = self._render(entry)
                now = time.monotonic()
                kept = self._kept[name] = _Kept(text, wanted, now, now - begin)
            self._kept.move_to_end(name)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return kept.text

    def run_state(self, name: str) -> dict[str, object] | None:
        """What tells whether a run's report would be another one now."""
        entry = self.catalogue.find(name)
        if entry is None:
            return None
        return {"stamp": self._stamp(entry), "running": entry.run.life == "running"}

    def incident(self, name: str, home: str) -> str | None:
        """The report of one incident; None where there is none. Raises `ReportError`."""
        entry = self.catalogue.find(name)
        folders = incident_folders(entry.folder) if entry is not None else []
        found = next((folder for folder in folders if folder.name == home), None)
        if entry is None or found is None or not is_incident(found):
            return None
        _refuse_links(entry)
        return render_incident(found, home=address(name))

    def _stamp(self, entry: Entry) -> str:
        """Of the record as it is, or of the page that is not to be made again so soon."""
        kept = self._kept.get(entry.name)
        if kept is not None and time.monotonic() - kept.made < REST * kept.took:
            return kept.stamp
        return _digest(repr((stamp_of(entry.folder), entry.run.life)))

    def _render(self, entry: Entry) -> str:
        _refuse_links(entry)
        base = address(entry.name)
        homes = [folder.name for folder in incident_folders(entry.folder)]
        links = [(home, f"{base}/incident/{quote(home, safe='')}") for home in homes]
        live = {"state": f"{base}/state", "home": "/"}
        return render(read_folder(entry.folder), live=live, script=script_address(), links=links)


def _refuse_links(entry: Entry) -> None:
    if (file := strange_file(entry.folder)) is not None:
        raise ReportError(f"{file} is no plain file, and not followed")


def address(name: str) -> str:
    """Where a run's report is."""
    return f"/run/{quote(name, safe='')}"


def script_address() -> str | None:
    """Where the drawing script is; it changes with its content. None without Bokeh."""
    text = script()
    return f"/assets/{_digest(text)}.js" if text else None


@lru_cache(maxsize=1)
def script() -> str:
    """Bokeh's core, "" where it is missing."""
    from rlwatch.report.bokeh_templates import bundle

    try:
        return bundle()
    except ModuleNotFoundError:
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:20]
