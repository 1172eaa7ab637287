"""One recorded run through a real Watch: what it would have said while the run went on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from rlwatch.alert import Alert
from rlwatch.detectors.coverage import CoverageReport
from rlwatch.diagnosis import Incident
from rlwatch.offline.ingest import IngestError, Log
from rlwatch.watch import Watch

Health = Literal["clean", "warning", "critical", "not judged", "unreadable"]

_TICK = 1024  # rows between two calls of `progress`


@dataclass
class Replay:
    """What a replay of one run gave.

    Attributes:
        run: the path as it was given.
        rows: training steps judged.
        alerts: in the order they were raised.
        incidents: the alerts that belong together, diagnosed.
        coverage: what each detector saw; None for an unreadable run.
        remarks: what a person should know about the reading, a sentence each.
        error: why the run could not be read, one sentence; "" when it was.
        broken: whether part of rlwatch failed on it: silence then proves nothing.
    """

    run: str
    rows: int = 0
    alerts: list[Alert] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    coverage: CoverageReport | None = None
    remarks: list[str] = field(default_factory=list)
    error: str = ""
    broken: bool = False

    @property
    def health(self) -> Health:
        """The run in one word. Without an alert and without one armed detector, nothing was judged."""
        if self.coverage is None:
            return "unreadable"
        if self.alerts:
            return "critical" if any(alert.critical for alert in self.alerts) else "warning"
        return "clean" if self.coverage.in_state("armed") and not self.broken else "not judged"


def replay(
    run: str | Path,
    *,
    preset: str | None = None,
    signal_map: Mapping[str, str] | None = None,
    rules: Sequence[str] = (),
    progress: Callable[[int], None] = lambda rows: None,
) -> Replay:
    """Replays one log and collects the alerts.

    `signal_map` maps a canonical signal, or `step`, to the log's key; `rules` are guards of the user's, in place of
    those in the settings; `progress` is called now and then with
    the rows done. An unreadable log gives a `Replay` with `error`; a bad preset or signal name raises
    `rlwatch.config.ConfigError`.
    """
    given = dict(signal_map or {})
    known = {name: key for name, key in given.items() if name != "step"}
    done = Replay(str(run))
    keys: dict[str, None] = {}
    own: dict[str, Any] = {"rules": list(rules)} if rules else {}
    with Watch(preset, on_critical="continue", signal_map=known, record=False, console=False, **own) as watch:
        mapped = {**watch.settings.signal_map, **given}
        log = Log(run, mapped)
        try:
            for row in log:
                done.alerts += watch.log(row.metrics, step=row.step).alerts
                if log.rows % _TICK == 0:
                    progress(log.rows)
                if log.rows <= 2:
                    keys.update(dict.fromkeys(row.metrics))
        except IngestError as error:
            return Replay(str(run), error=str(error))
        done.incidents = watch.diagnosis(clock=False)
        done.rows, done.coverage, done.broken = log.rows, watch.coverage(), bool(watch.failures)
    done.remarks = log.remarks() + [
        f"the key {key!r}, mapped to {name}, appears in none of its rows"
        for name, key in mapped.items()
        if key in log.unmet
    ]
    done.remarks += [f"{part} failed: {reason}" for part, reason in watch.failures.items()]
    if done.health == "not judged":
        done.remarks.append(_why_not_judged(done, keys))
    return done


def _why_not_judged(done: Replay, keys: Mapping[str, Any]) -> str:
    assert done.coverage is not None
    if done.broken:
        return "not judged: part of rlwatch failed on it"
    if done.coverage.in_state("warming"):
        return f"not judged: its {done.rows} rows are too few for any detector that has a signal in it"
    shown = ", ".join(islice(keys, 8)) + (", ..." if len(keys) > 8 else "")
    return f"not judged: no detector knows a signal in it (it has {shown}): name them, as in --map kl=KEY"
