"""`rlwatch scan`: replays many recorded runs and says which are healthy."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rlwatch.offline.locate import runs_in
from rlwatch.offline.pool import Pool, processes_for
from rlwatch.offline.ray_pool import RayPool
from rlwatch.offline.render import report
from rlwatch.offline.replay import Replay, replay, watch_for
from rlwatch.offline.ticker import Ticker
from rlwatch.sinks.jsonl import clean
from rlwatch.telling import printable

Format = Literal["text", "json"]

CLEAN, WARNINGS, CRITICALS, UNREADABLE = range(4)


def scan(
    paths: Sequence[str | Path],
    *,
    preset: str | None = None,
    signal_map: Mapping[str, str] | None = None,
    rules: Sequence[str] = (),
    needs: Sequence[str] = (),
    form: Format = "text",
    jobs: int = 1,
    ray: str | None = None,
) -> int:
    """Replays the runs, prints the report on stdout and returns the exit code.

    With `ray`, the address of a cluster or "auto", its nodes replay them; else `jobs` processes do.
    A folder of many runs, or a database, stands for all of them. In JSON a run's object is printed as soon as the
    runs before it are done. What was wrong with a run's file goes to stderr, a sentence each. Raises
    `rlwatch.config.ConfigError` for a preset or a signal that does not exist or a rule that cannot be read, and
    `KeyboardInterrupt` on Ctrl-C, once the runs done so far are reported.
    """
    runs = [run for path in paths for run in runs_in(path)]
    options: dict[str, Any] = {
        "preset": preset,
        "signal_map": dict(signal_map or {}),
        "rules": [*rules],
        "needs": [*needs],
    }
    watch_for(preset, options["signal_map"], rules).close()  # a wrong setting is told before the first run
    done: list[Replay] = []
    ticker = Ticker()
    progress = Progress(len(runs), ticker)
    processes = processes_for(runs, jobs)
    if ray is not None:
        results = _at_once(RayPool(runs, ray, **options), progress)
    elif processes < 2:
        results = _one_by_one(runs, options, progress)
    else:
        results = _at_once(Pool(runs, processes, **options), progress)
    try:
        for result in results:
            done.append(result)
            ticker.clear()
            _tell(result, form)
    except KeyboardInterrupt as interrupt:
        ticker.clear()
        for result in getattr(interrupt, "done", ()):
            done.append(result)
            _tell(result, form)
        print(f"rlwatch: interrupted: {len(done)} of {len(runs)} runs were scanned", file=sys.stderr)
        raise
    finally:
        if form == "text" and done:
            report(done, sys.stdout)
    return exit_code(done)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with the results that were there but not yet passed on."""

    def __init__(self, done: Sequence[Replay] = ()) -> None:
        super().__init__()
        self.done = done


def _one_by_one(runs: Sequence[str], options: Mapping[str, Any], progress: Progress) -> Iterator[Replay]:
    for index, run in enumerate(runs):
        yield replay(run, **options, progress=progress.at(index, run))


def _at_once(opened: Pool | RayPool, progress: Progress) -> Iterator[Replay]:
    given = 0
    with opened as pool:
        try:
            for result in pool.results(progress.count):
                given += 1
                yield result
        except KeyboardInterrupt:
            raise Interrupted(pool.done_after(given)) from None


def _tell(result: Replay, form: Format) -> None:
    for sentence in filter(None, [result.error, result.unjudged, *result.remarks]):
        print(printable(f"rlwatch: {result.run}: {sentence}"), file=sys.stderr)
    if form == "json":
        print(json.dumps(as_json(result), allow_nan=False), flush=True)


def as_json(result: Replay) -> dict[str, Any]:
    """A run as strict JSON values, non-finite numbers as text; `run` and `error` where it is unreadable."""
    if result.coverage is None:
        return {"run": clean(result.run), "error": clean(result.error)}
    fields = ("step", "detector", "severity", "message", "evidence", "playbook")
    told = [alert.as_dict() for alert in result.alerts]
    blind = {line.detector: line.reason for line in result.coverage.in_state("starved", "warming", "failed")}
    unjudged = {"run": result.unjudged, "signals": result.missing, "rules": result.blind, "detectors": blind}
    return {
        "run": clean(result.run),
        "rows": result.rows,
        "alerts": [{name: clean(alert[name]) for name in fields} for alert in told],
        "coverage": clean(result.coverage.as_dict()),
        "incidents": [clean(incident.as_dict()) for incident in result.incidents],
        "health": result.health,
        "not_evaluated": clean(unjudged),
        "format": result.format,
        "signals": clean(result.sources),
        "no_signal": clean(result.strange),
        "remarks": clean(result.remarks),
    }


def exit_code(results: Iterable[Replay]) -> int:
    """0 clean, 1 warnings, 2 criticals; above all 3: a run is unreadable, or not all asked of it could be judged."""
    codes = {"clean": CLEAN, "warning": WARNINGS, "critical": CRITICALS}
    return max((codes[result.health] if result.judged else UNREADABLE for result in results), default=CLEAN)


class Progress:
    """How far a scan is, told by a ticker."""

    def __init__(self, runs: int, ticker: Ticker) -> None:
        self._runs = runs
        self._ticker = ticker

    def at(self, index: int, run: str | Path) -> Callable[[int], None]:
        """The callback for run number `index` (from 0): takes the rows done in it."""

        def tell(rows: int) -> None:
            if self._ticker.due:
                self._ticker.show(f"scanning run {index + 1} of {self._runs}: {rows:,} rows of {run}")

        return tell

    def count(self, done: int) -> None:
        """Says how many runs are done, where several are replayed at once."""
        if self._ticker.due:
            self._ticker.show(f"scanned {done} of {self._runs} runs")
