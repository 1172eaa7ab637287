"""One recorded run through a real Watch: what it would have said while the run went on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlwatch.alert import Alert
from rlwatch.detectors.coverage import CoverageReport
from rlwatch.diagnosis import Incident
from rlwatch.offline.ingest import IngestError, Log
from rlwatch.offline.recorded import load
from rlwatch.presets import CATALOGUE
from rlwatch.rules.rule import rule_class
from rlwatch.signals import SIGNALS
from rlwatch.watch import Watch

Health = Literal["clean", "warning", "critical", "not evaluated", "unreadable"]

_TICK = 1024  # rows between two calls of `progress`
_SHOWN = 6


@dataclass
class Replay:
    """What a replay of one run gave.

    Attributes:
        run: the path as it was given.
        rows: training steps judged.
        alerts: in the order they were raised.
        incidents: the alerts that belong together, diagnosed.
        coverage: what each detector saw; None for an unreadable run.
        format: what the log was recognised as.
        sources: signal -> the log's key that it was taken from.
        strange: keys of the log that no alias knows.
        missing: needed signals that the log does not have.
        blind: rules that were asked for and could not be judged once, with the reason.
        recognised: format, sources and strange keys, a line each.
        remarks: what a person should know about the reading, a sentence each.
        unjudged: why the run, or what was asked of it, was not evaluated, one sentence; "" when it was.
        error: why the run could not be read, one sentence; "" when it was.
        broken: whether part of rlwatch failed on it: silence then proves nothing.
    """

    run: str
    rows: int = 0
    alerts: list[Alert] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    coverage: CoverageReport | None = None
    format: str = ""
    sources: dict[str, str] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)
    recognised: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    unjudged: str = ""
    error: str = ""
    broken: bool = False

    @property
    def health(self) -> Health:
        """The run in one word. Without an alert and without one armed detector, nothing was judged."""
        if self.coverage is None:
            return "unreadable"
        if self.alerts:
            return "critical" if any(alert.critical for alert in self.alerts) else "warning"
        armed = self.coverage.in_state("armed") and not self.broken and not self.unmet
        return "clean" if armed else "not evaluated"

    @property
    def judged(self) -> bool:
        """Whether the run was read and all that was asked of it could be judged."""
        return self.coverage is not None and not self.unmet and self.health != "not evaluated"

    @property
    def unmet(self) -> list[str]:
        """What was asked for and is not in the log: signals, and rules for want of theirs."""
        return [*self.missing, *self.blind]

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        from rlwatch.notebook import replay_html

        return replay_html(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """The same, and what IPython prints on a terminal."""
        from rlwatch.notebook import bundle, replay_text

        return bundle(replay_text(self), self._repr_html_())


def replay(
    run: str | Path,
    *,
    preset: str | None = None,
    signal_map: Mapping[str, str] | None = None,
    rules: Sequence[str] = (),
    needs: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Replay:
    """Replays one log and collects the alerts.

    `signal_map` maps a canonical signal, or `step`, to the log's key; `rules` are guards of the user's, in place of
    those in the settings; without the signals in `needs` the run is not evaluated; `progress` is called now and then
    with the rows done. Without a `preset` a run folder of rlwatch's own is judged with that of its run. An
    unreadable log gives a `Replay` with `error`; a bad preset or signal name raises `rlwatch.config.ConfigError`.
    """
    given = dict(signal_map or {})
    done = Replay(str(run))
    own = preset_of(Path(run)) if preset is None else None
    with watch_for(preset or own, given, rules) as watch:
        mapped = {**watch.settings.signal_map, **given}
        log = Log(run, mapped)
        try:
            for row in log:
                done.alerts += watch.log(row.metrics, step=row.step).alerts
                if log.rows % _TICK == 0 and progress is not None:
                    progress(log.rows)
        except IngestError as error:
            return Replay(str(run), error=str(error))
        done.incidents = watch.diagnosis(clock=False)
        done.rows, done.coverage, done.broken = log.rows, watch.coverage(), bool(watch.failures)
    done.format, done.sources, done.strange = log.format, log.sources, log.strange
    done.recognised = log.recognised()
    done.missing = [name for name in needs if not _twins(name) & done.sources.keys()]
    done.blind = blind_rules(done.coverage, rules, mapped)
    if own:
        done.recognised.append(f"judged with the run's own preset, {own}; --preset names another")
    done.remarks = log.remarks() + [
        f"the key {key!r}, mapped to {name}, appears in none of its rows"
        for name, key in mapped.items()
        if key in log.unmet
    ]
    done.remarks += [f"{part} failed: {reason}" for part, reason in watch.failures.items()]
    if not done.judged:
        done.unjudged = _why_not(done)
    return done


def preset_of(run: Path) -> str | None:
    """The preset that the run's own record names; None where there is no record, or no such preset any more."""
    settings = load(run / "run.json").get("settings")
    name = settings.get("preset") if isinstance(settings, dict) else None
    return name if isinstance(name, str) and name in CATALOGUE else None


def watch_for(preset: str | None, signal_map: Mapping[str, str], rules: Sequence[str]) -> Watch:
    """A Watch that only judges: nothing is written or printed. Raises `ConfigError`."""
    known = {name: key for name, key in signal_map.items() if name != "step"}
    own: dict[str, Any] = {"rules": list(rules)} if rules else {}
    silent: dict[str, Any] = {"record": False, "console": False, "stall": False, "notify": [], "sinks": []}
    return Watch(preset, on_critical="continue", signal_map=known, **silent, **own)


def blind_rules(coverage: CoverageReport, rules: Sequence[str], signal_map: Mapping[str, str]) -> list[str]:
    """Those of the user's rules that could not be judged once, each with the reason."""
    asked = {rule_class(text, signal_map).id for text in rules}
    unjudged = coverage.in_state("starved", "warming")
    return [f"{line.detector} ({line.reason})" for line in unjudged if line.detector in asked]


def _twins(name: str) -> set[str]:
    """A signal and the arrays that it may be derived from."""
    return {name, *(signal.name for signal in SIGNALS.values() if signal.twin == name)}


def _why_not(done: Replay) -> str:
    assert done.coverage is not None
    if done.missing:
        return f"not evaluated: there is no {' nor '.join(done.missing)} in it: name them, as in --map kl=KEY"
    if done.blind:
        return f"not evaluated: {'; '.join(done.blind)}"
    if done.broken:
        return "not evaluated: part of rlwatch failed on it"
    if done.coverage.in_state("warming"):
        return f"not evaluated: its {done.rows} rows are too few for any detector that has a signal in it"
    shown = ", ".join(done.strange[:_SHOWN]) + (", ..." if len(done.strange) > _SHOWN else "")
    reason = "the signals in it stopped early" if done.sources else "no detector knows a signal in it"
    return f"not evaluated: {reason} (it has {shown or 'nothing else'}): name them, as in --map kl=KEY"
