"""`rlwatch scan`: replays many recorded runs and says which are healthy."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

from rlwatch.offline.render import printable, report
from rlwatch.offline.replay import Replay, replay
from rlwatch.sinks.jsonl import clean

Format = Literal["text", "json"]

CLEAN, WARNINGS, CRITICALS, UNREADABLE = range(4)

_PATIENCE_S = 2.0  # shorter work needs no progress
_EVERY_S = {True: 0.2, False: 10.0}  # on a terminal, in a log file


def scan(
    paths: Sequence[str | Path],
    *,
    preset: str | None = None,
    signal_map: Mapping[str, str] | None = None,
    rules: Sequence[str] = (),
    form: Format = "text",
) -> int:
    """Replays the runs, prints the report on stdout and returns the exit code.

    In JSON a run's object is printed as soon as the run is done. What was wrong with a run's file goes to
    stderr, a sentence each. Raises `rlwatch.config.ConfigError` for a preset or a signal that does not exist or a
    rule that cannot be read, and `KeyboardInterrupt` on Ctrl-C, once the runs done so far are reported.
    """
    done: list[Replay] = []
    progress = Progress(len(paths), sys.stderr)
    try:
        for path in paths:
            tell = progress.at(len(done), path)
            result = replay(path, preset=preset, signal_map=signal_map, rules=rules, progress=tell)
            done.append(result)
            progress.clear()
            for sentence in filter(None, [result.error, *result.remarks]):
                print(printable(f"rlwatch: {result.run}: {sentence}"), file=sys.stderr)
            if form == "json":
                print(json.dumps(as_json(result), allow_nan=False), flush=True)
    except KeyboardInterrupt:
        progress.clear()
        print(f"rlwatch: interrupted: {len(done)} of {len(paths)} runs were scanned", file=sys.stderr)
        raise
    finally:
        if form == "text" and done:
            report(done, sys.stdout)
    return exit_code(done)


def as_json(result: Replay) -> dict[str, Any]:
    """A run as strict JSON values, non-finite numbers as text; `run` and `error` where it is unreadable."""
    if result.coverage is None:
        return {"run": clean(result.run), "error": clean(result.error)}
    fields = ("step", "detector", "severity", "message", "evidence", "playbook")
    told = [alert.as_dict() for alert in result.alerts]
    return {
        "run": clean(result.run),
        "rows": result.rows,
        "alerts": [{name: clean(alert[name]) for name in fields} for alert in told],
        "coverage": clean(result.coverage.as_dict()),
        "incidents": [clean(incident.as_dict()) for incident in result.incidents],
    }


def exit_code(results: Iterable[Replay]) -> int:
    """0 clean, 1 warnings, 2 criticals; above all 3: a run is unreadable or holds nothing to judge."""
    codes = {"clean": CLEAN, "warning": WARNINGS, "critical": CRITICALS}
    return max((codes.get(result.health, UNREADABLE) for result in results), default=CLEAN)


class Progress:
    """One line on stderr about long work: rewritten in place on a terminal, told anew in a log file."""

    def __init__(self, runs: int, stream: TextIO) -> None:
        self._runs = runs
        self._stream = stream
        self._terminal = stream.isatty()
        self._next = time.monotonic() + _PATIENCE_S
        self._shown = False

    def at(self, index: int, run: str | Path) -> Callable[[int], None]:
        """The callback for run number `index` (from 0): takes the rows done in it."""

        def tell(rows: int) -> None:
            now = time.monotonic()
            if now >= self._next:
                self._next = now + _EVERY_S[self._terminal]
                place = f"run {index + 1} of {self._runs}"
                self._write(f"scanning {place}: {rows:,} rows of {printable(str(run))}")

        return tell

    def _write(self, line: str) -> None:
        if self._terminal:
            self._shown = True
            line = f"\r\x1b[K{line[:100]}"
        self._stream.write(line if self._terminal else line + "\n")
        self._stream.flush()

    def clear(self) -> None:
        """Takes the line off a terminal, before something else is printed."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._shown = False
