"""The run folder: what a run leaves behind.

`<runs_dir>/<run id>/` holds

- `run.json`: what the watch said at the start (settings, versions, command), `coverage`, and at the end
  `summary` and `recording` (rows and alerts written, records dropped, the first trouble). `summary` is null
  while the run lives, and for ever if it was killed. `previous` lists earlier processes of a resumed run.
- `steps.jsonl`: a line a step, `{"step":, "row":, "time":, <canonical signal>: value, ...}`, and only where
  there is something to say `"extra"` (numbers under keys that no alias knows), `"samples"` (summaries of the
  sample arrays; left out where the loop outruns the writer), `"alerts"` (detectors that spoke), `"action"`
  (other than continue) and `"poisoned"`.
- `alerts.jsonl`: a line an alert, with its message, evidence, playbook link and first remedy.
- `events.jsonl`, where there are any: a line for each thing done to the run or seen about it (`rollback`, `halt`,
  `stall`, ...), `{"event":, "step":, "row":, "message":, ...}`.
- `samples.jsonl`: best, worst and random samples, and one group, at rows 1, 2, 4, 8, ... and the last.
- `incidents/<step>-<detector>/`: `alert.json`, `window.jsonl` (the lines of the last 64 steps),
  `timeline.jsonl` (all alerts of the incident, and what was done), `diagnosis.json` (what broke first and what to do,
  as far as it is known), `samples.jsonl` (best, worst and random samples) and, if asked for, `report.html`.
- `report.html`, if asked for, at the end.

Files are appended in whole lines of strict JSON, readable at any moment; NaN and infinities are the strings
"NaN", "Infinity", "-Infinity". A background thread writes them every quarter of a second, at once after an
alert, and at exit, so a killed process loses that quarter at most. A run that is resumed under its id
appends; its steps may go back, and the later line of a step is the one that counts.

Whatever goes wrong here costs one warning and the records concerned, which are counted.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlwatch.sinks.files import new_run_id, safe_name
from rlwatch.sinks.jsonl import clean
from rlwatch.sinks.recorder import Recorder
from rlwatch.sinks.writer import BackgroundWriter, Trouble

if TYPE_CHECKING:
    from rlwatch.alert import Alert, Verdict
    from rlwatch.detectors.coverage import CoverageReport
    from rlwatch.observation import Observation

START_WAIT = 1.0  # seconds given to the disk to make the folder
CLOSE_WAIT = 5.0  # and to take what is left
# Rows that wait for the disk keep their texts, and their arrays, only up to here: memory stays bounded.
KEEP_TEXTS = 16
KEEP_ARRAYS = 256


class RunDirSink:
    """Records a run in `runs_dir/run_id`; see the module for the files.

    run_id: names the folder. One that exists is resumed. None: UTC time and four random hex digits, and a
        folder that no other process has.
    on_trouble: gets one line of text, once, possibly from another thread; by default it becomes a warning of
        the logger "rlwatch".
    limit: steps that may wait for the disk.
    report: whether another process writes `report.html`, of the run at its end and of each incident at its alert.

    Constructing it makes the folder, off the calling thread; a disk that does not answer is waited for
    START_WAIT seconds.
    """

    def __init__(
        self,
        runs_dir: str | PathLike[str] = "rlwatch_runs",
        run_id: str | None = None,
        *,
        on_trouble: Callable[[str], object] | None = None,
        limit: int = 4096,
        report: bool = False,
    ) -> None:
        name = new_run_id() if run_id is None else safe_name(run_id)
        self._trouble = Trouble(on_trouble or partial(logging.getLogger("rlwatch").warning, "rlwatch: %s"))
        self._writer = BackgroundWriter(self._trouble, limit=limit)
        self._recorder = Recorder(
            Path(runs_dir),
            name,
            resume=run_id is not None,
            trouble=self._trouble,
            behind=self._writer.behind,
            report=report,
            note=partial(logging.getLogger("rlwatch").warning, "rlwatch: %s"),
        )
        self._write_step = self._recorder.step
        weakref.finalize(self, self._writer.request_stop).atexit = False
        with self._no_error():
            self._open()

    def _open(self) -> None:
        ready = threading.Event()
        self._writer.start(self._recorder.flush)
        self._writer.put((self._recorder.open, ()))
        self._writer.put((ready.set, ()), urgent=True)
        ready.wait(START_WAIT)

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._recorder.folder

    def stats(self) -> dict[str, Any]:
        """What was recorded: `steps` and `alerts` written, records `dropped`, the first `trouble` or None."""
        dropped = self._writer.dropped + self._recorder.lost
        return {**self._recorder.written, "dropped": dropped, "trouble": self._trouble.first}

    def start(self, info: Mapping[str, Any]) -> None:
        """Put `info` into `run.json`."""
        with self._no_error():
            self._writer.put((self._recorder.start, (clean(info),)))

    def step(self, obs: Observation, verdict: Verdict) -> None:
        """Queue a step. Its arrays are read later and must not change; about a microsecond."""
        samples: Mapping[str, Any] = obs.samples
        if samples and len(self._writer) >= KEEP_TEXTS:
            samples = _lighter(samples, len(self._writer))
        fields = (obs.step, samples, verdict, obs.row, obs.time, obs.signals, obs.nonfinite, obs.extra)
        self._writer.put((self._write_step, fields))

    def alert(self, alert: Alert) -> None:
        """Queue an alert, which is written at once."""
        self._writer.put((self._recorder.alert, (alert,)), urgent=True)

    def event(self, event: Mapping[str, Any]) -> None:
        """Queue an event, which is written at once; from any thread."""
        with self._no_error():
            self._writer.put((self._recorder.event, (clean(event),)), urgent=True)

    def coverage(self, report: CoverageReport) -> None:
        """Put the coverage into `run.json`."""
        with self._no_error():
            self._writer.put((partial(self._recorder.update, coverage=clean(report.as_dict())), ()))

    def close(self, summary: Mapping[str, Any]) -> None:
        """Write what is left and the summary; wait for the disk CLOSE_WAIT seconds at most."""
        if self._writer.closed:
            return
        with self._no_error():
            self._writer.put((self._recorder.finish, (clean(summary), self.stats)), urgent=True)
            if not self._writer.stop(CLOSE_WAIT):
                self._trouble(f"{len(self._writer)} records were not written, the disk did not answer")

    @contextlib.contextmanager
    def _no_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self._trouble(f"the run is not recorded as it should be ({error!r})")


def _lighter(samples: Mapping[str, Any], waiting: int) -> Mapping[str, Any]:
    if waiting >= KEEP_ARRAYS:
        return {}
    return {name: values for name, values in samples.items() if not isinstance(values, list)}
