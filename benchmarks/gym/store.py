"""Results on disk: one JSON line a run, appended as it ends, so that nothing is lost and nothing is run twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from benchmarks.gym.cases import Case
from benchmarks.gym.run import Result, play
from benchmarks.gym.traces import document


class Store:
    """The results of a folder, by key."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "results.jsonl"
        self.results: dict[str, Result] = {}
        if self.path.exists():
            text = self.path.read_text(encoding="utf-8")
            for line in text.splitlines():
                self._take(line)
            if text and not text.endswith("\n"):  # cut short by a kill: the next result begins a line of its own
                with self.path.open("a", encoding="utf-8") as out:
                    out.write("\n")

    def add(self, result: Result) -> None:
        """Keep a result and write it out."""
        self.results[result.key] = result
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(asdict(result)) + "\n")

    def _take(self, line: str) -> None:
        """A last line cut short by a kill is left out, and its run is done again."""
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            return
        known = {field.name for field in fields(Result)}
        result = Result(**{name: value for name, value in values.items() if name in known})
        self.results[result.key] = result


def run_all(cases: Iterable[Case], store: Store, jobs: int = 1, traces: Path | None = None) -> None:
    """Run the cases that have no result yet, `jobs` at a time; an interrupt keeps what is done."""
    waiting = {case.key: case for case in cases if case.key not in store.results}
    started, total = time.time(), len(waiting)
    work = [(case, traces) for case in waiting.values()]
    if jobs == 1 or total < 2:
        results: Iterable[Result] = map(_play, work)
        _gather(results, store, started, total)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, _ignore_interrupts) as pool:
        _gather(pool.imap_unordered(_play, work), store, started, total)


def _gather(results: Iterable[Result], store: Store, started: float, total: int) -> None:
    for done, result in enumerate(results, 1):
        store.add(result)
        left = (time.time() - started) / done * (total - done)
        first = result.alerts[0] if result.alerts else {}
        said = f"{first['detector']} at {first['step']}" if first else "-"
        line = f"{done}/{total} {left / 60:.0f} min left  {result.key}: success {result.end:.2f}, {said}"
        print(line[: _width()].ljust(_width()), end="\r" if sys.stdout.isatty() else "\n", flush=True)


def _play(work: tuple[Case, Path | None]) -> Result:
    case, traces = work
    result, rows = play_any(case)
    if traces is not None and case.mode == "none":
        traces.mkdir(parents=True, exist_ok=True)
        (traces / f"{result.key}.json").write_text(document(result, rows), encoding="utf-8")
    return result


def play_any(case: Case) -> tuple[Result, list[dict[str, Any]]]:
    """Run a case with its trainer; TRL is imported only for its own."""
    if case.trainer != "trl":
        return play(case)
    from benchmarks.gym.run_trl import play_trl

    return play_trl(case)


def _ignore_interrupts() -> None:
    """Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _width() -> int:
    try:
        return os.get_terminal_size().columns - 1
    except OSError:
        return 200


def untouched(result: Result, known: Mapping[str, Result]) -> Result:
    """The run as it goes where nobody stops it or takes it back: only that one tells whether it was healthy."""
    return known.get(replace(case_of(result), mode="none").key, result) if _touched(result) else result


def references(store: Store) -> list[Case]:
    """The unwatched runs that are needed beside those without a fault that were stopped or taken back."""
    touched = [case_of(result) for result in store.results.values() if _touched(result)]
    return [replace(case, mode="none") for case in touched if case.grid >= 0]


def _touched(result: Result) -> bool:
    return result.halted is not None or bool(result.restored)


def case_of(result: Result) -> Case:
    """The case that a result is of."""
    values: dict[str, Any] = result.case
    return Case(**values)
