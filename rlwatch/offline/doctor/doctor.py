"""`rlwatch doctor`: the score with its parts, the verdict, the next three things to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlwatch.diagnosis.advice import Advice
from rlwatch.diagnosis.outcome import outcome_of
from rlwatch.offline.audit import environment, record
from rlwatch.offline.audit.finding import Finding, ordered
from rlwatch.offline.doctor.done import events_of
from rlwatch.offline.doctor.saved import Saved, checkpoints_of
from rlwatch.offline.replay import Replay, replay
from rlwatch.telling import as_json, printable

HEALTHY, ADJUST, STOP, NOT_EVALUATED = range(4)
CODES = {"healthy": HEALTHY, "adjust": ADJUST, "stop": STOP, "not evaluated": NOT_EVALUATED}

WEIGHTS = {"training": 60, "checkpoints": 20, "sight": 10, "record": 10}
_TRAINING = {"clean": 100, "warning": 60, "critical": 10}
_CHECKPOINT = {"healthy": 100, "suspect": 50, "poisoned": 0, "broken": 0}
_COST = {"breaks": 25, "unknown": 25, "may": 10}


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the score: 0 to 100, or None where it could not be evaluated; `says` is the reason."""

    name: str
    points: int | None
    says: str


@dataclass
class Diagnosis:
    """What the doctor says of a run.

    Attributes:
        replay: of its log.
        checkpoints: by step.
        findings: of its record.
        parts: of the score.
        events: what rlwatch did to the run while it went on.
    """

    replay: Replay
    checkpoints: list[Saved] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def recovered(self) -> str:
        """One sentence where the run went back and no critical alert has come since, else empty."""
        told = ((alert.step, alert.severity, None) for alert in self.replay.alerts)
        if outcome_of(told, self.events) != "recovered":
            return ""
        return f"rlwatch took the run back at step {self.went_back.get('step')}; no critical alert has come since"

    @property
    def went_back(self) -> dict[str, Any]:
        """The last event of going back; {} without one."""
        return next((event for event in reversed(self.events) if event.get("event") == "rollback"), {})

    @property
    def score(self) -> int | None:
        """The mean of the parts that were evaluated, by `WEIGHTS`; None without a judged log."""
        known = {part.name: part.points for part in self.parts if part.points is not None}
        if "training" not in known:
            return None
        return round(
            sum(WEIGHTS[name] * points for name, points in known.items()) / sum(WEIGHTS[name] for name in known)
        )

    @property
    def verdict(self) -> Literal["healthy", "adjust", "stop", "not evaluated"]:
        """One word. An incident that says to stop outweighs every other part, unless the run has gone back since."""
        if not self.replay.judged:
            return "not evaluated"
        if not self.recovered and any(incident.advice is Advice.STOP for incident in self.replay.incidents):
            return "stop"
        return "adjust" if self.replay.alerts else "healthy"

    @property
    def resume_from(self) -> Saved | None:
        """The newest healthy checkpoint."""
        return next((one for one in reversed(self.checkpoints) if one.health == "healthy"), None)

    def todo(self) -> list[str]:
        """What to do next, three things at most, the most urgent first."""
        return list(dict.fromkeys(_todo(self)))[:3]

    def as_dict(self) -> dict[str, Any]:
        """The diagnosis as JSON values."""
        return {
            "run": self.replay.run,
            "verdict": self.verdict,
            "score": self.score,
            "parts": [
                {"name": p.name, "points": p.points, "weight": WEIGHTS[p.name], "says": p.says} for p in self.parts
            ],
            "todo": self.todo(),
            "recovered": self.recovered or None,
            "resume_from": str(self.resume_from.path) if self.resume_from else None,
            "checkpoints": [
                {"path": str(one.path), "step": one.step, "health": one.health, "reason": one.reason}
                for one in self.checkpoints
            ],
            "alerts": [alert.as_dict() for alert in self.replay.alerts],
            "incidents": [incident.as_dict() for incident in self.replay.incidents],
            "findings": [finding.as_dict() for finding in self.findings],
            "not_evaluated": self.replay.error or self.replay.unjudged,
        }


def examine(
    run: Path,
    preset: str | None = None,
    signal_map: Mapping[str, str] | None = None,
    rules: Sequence[str] = (),
) -> Diagnosis:
    """Looks at a run's folder, or at a log and what lies beside it. Raises `ConfigError`."""
    done = Diagnosis(replay(run, preset=preset, signal_map=signal_map, rules=rules))
    folder = run if run.is_dir() else run.parent
    if done.replay.coverage is not None and folder.is_dir():
        done.checkpoints = checkpoints_of(folder, done.replay.incidents)
        facts = record.of_run(folder)
        done.findings = ordered(list(record.findings(facts)))
        done.findings += _other_machine(facts)
        done.events = events_of(folder)
    done.parts = [_training(done), _checkpoints(done.checkpoints), _sight(done.replay), _record(done)]
    return done


def _other_machine(facts: Mapping[str, Any]) -> list[Finding]:
    lines = record.differences(facts, environment.card())
    says = f"this environment is not the run's ({'; '.join(lines[:3])})"
    fix = "install the run's versions before going on from its checkpoints"
    return [Finding("other_environment", "may", says, fix)] if lines else []


def _training(done: Diagnosis) -> Part:
    log = done.replay
    if not log.judged:
        return Part("training", None, log.error or log.unjudged)
    alerts = f"{len(log.alerts)} alerts in {log.rows:,} rows" if log.alerts else f"no alert in {log.rows:,} rows"
    if done.recovered:
        return Part("training", _TRAINING["warning"], f"recovered: {alerts}; {done.recovered}")
    return Part("training", _TRAINING[log.health], f"{log.health}: {alerts}")


def _checkpoints(found: Sequence[Saved]) -> Part:
    if not found:
        return Part("checkpoints", None, "there is none beside the log")
    counts = [f"{n} {health}" for health in _CHECKPOINT if (n := sum(one.health == health for one in found))]
    points = max(_CHECKPOINT[one.health] for one in found)
    return Part("checkpoints", points, ", ".join(counts))


def _sight(done: Replay) -> Part:
    if done.coverage is None:
        return Part("sight", None, "the log could not be read")
    lines = [line for line in done.coverage if line.state != "off"]
    armed = sum(line.state == "armed" for line in lines)
    return Part(
        "sight", round(100 * armed / max(1, len(lines))), f"{armed} of {len(lines)} detectors had their signals"
    )


def _record(done: Diagnosis) -> Part:
    if done.replay.coverage is None:
        return Part("record", None, "the log could not be read")
    said = ", ".join(finding.id for finding in done.findings) or "seed, versions and commit are recorded"
    return Part("record", max(0, 100 - sum(_COST[finding.level] for finding in done.findings)), said)


def _todo(done: Diagnosis) -> Iterator[str]:
    """Everything that could be done, the most urgent first."""
    if done.replay.error:
        yield f"Give a log that can be read: {done.replay.error}"
        return
    if done.replay.unjudged:
        yield f"Give the detectors something to judge: {done.replay.unjudged}"
    incidents = sorted(done.replay.incidents, key=lambda one: one.advice is not Advice.STOP)
    if done.recovered:
        remedies = ", ".join(str(each) for each in done.went_back.get("remedies") or ())
        yield f"Keep what it changed ({remedies})" if remedies else "Find the cause: it went back without a remedy"
        incidents = []
    for incident in incidents[:1]:
        if incident.advice is Advice.STOP:
            yield f"Stop the run: {incident.reasons[0].because}"
        best = done.resume_from
        if best is not None and incident.advice is Advice.STOP:
            yield f"Go back to {best.path.name} (step {best.step}), the newest healthy checkpoint"
        yield from (fix.text for fix in incident.fixes)
    yield from (
        f"Do not resume from {one.path.name}: {one.reason}" for one in done.checkpoints if one.health == "broken"
    )
    yield from (f"{_capital(finding.says)}: {finding.fix}" for finding in done.findings)
    if done.replay.coverage is not None:
        starved = done.replay.coverage.in_state("starved")
        yield from (f"{_capital(line.fix)}: {line.detector} had {line.reason}" for line in starved)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def run(
    path: Path,
    preset: str | None,
    signal_map: Mapping[str, str],
    form: Literal["text", "json"],
    rules: Sequence[str] = (),
) -> int:
    """Prints the diagnosis and returns the exit code."""
    done = examine(path, preset, signal_map, rules)
    for sentence in done.replay.remarks:
        print(printable(f"rlwatch: {path}: {sentence}"), file=sys.stderr)
    if form == "json":
        print(as_json(done.as_dict()))
    elif not path.exists():
        print(printable(f"rlwatch: {path}: {done.replay.error}"), file=sys.stderr)
    else:
        print("\n".join(printable(line) for line in lines(done)))
    return CODES[done.verdict]


def lines(done: Diagnosis) -> Iterator[str]:
    """The diagnosis as text."""
    score = "no score" if done.score is None else f"health {done.score} of 100"
    yield f"{done.replay.run}: {done.verdict.upper()}, {score}"
    yield ""
    for part in done.parts:
        points = "not evaluated" if part.points is None else f"{part.points:>3} of 100"
        yield f"  {part.name:<12}{points:<14} x{WEIGHTS[part.name]:<4}{part.says}"
    if todo := done.todo():
        yield ""
        yield "Next:"
        yield from (f"  {number}. {text}" for number, text in enumerate(todo, 1))
    for incident in done.replay.incidents:
        yield ""
        yield from incident.lines()
    if done.checkpoints:
        yield ""
        yield "Checkpoints:"
    for one in done.checkpoints:
        yield f"  {one.path.name}  {one.health}" + (f"  {one.reason}" if one.reason else "")
