"""The tables of a report: settings, environment, cost, coverage, samples; secrets are masked here."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from rlwatch.diagnosis.cost import Cost
from rlwatch.diagnosis.timing import NAMES
from rlwatch.redact import redact
from rlwatch.report.data import RunData
from rlwatch.report.text import number, shown, value_text
from rlwatch.wording import duration

SAMPLE_TEXTS = 130_000
"""Characters of samples that a report shows in all."""

SAMPLE_TEXT = 1500
_TOLD_ELSEWHERE = frozenset(("settings", "versions", "command", "run_id", "started", "detectors", "off"))
_NOT_TOLD = _TOLD_ELSEWHERE | {"format", "previous"}
_STATES = {"failed": 0, "starved": 1, "warming": 2, "armed": 3, "off": 4}


class Line(NamedTuple):
    """A row of a table."""

    name: str
    value: str
    note: str = ""


def environment(run: RunData) -> list[Line]:
    """Where and how it ran."""
    info = redact(run.info)
    lines = [Line("started", _date(info.get("started")))] if info.get("started") else []
    command = info.get("command")
    if isinstance(command, list):
        lines.append(Line("command", shown(" ".join(map(str, command)), 2000)))
    versions = info.get("versions")
    if isinstance(versions, Mapping):
        lines += [Line(str(name), shown(text, 100)) for name, text in versions.items()]
    lines += [Line(str(name), value_text(value)) for name, value in info.items() if name not in _NOT_TOLD]
    return lines


def settings(run: RunData) -> list[Line]:
    """The settings that are not as they come, with what they come as."""
    given = redact(run.info.get("settings"))
    return sorted(_changed(given)) if isinstance(given, Mapping) else []


def _changed(given: Mapping[str, Any]) -> Iterator[Line]:
    from rlwatch.config import settings_class

    fields = settings_class().model_fields
    for name, value in given.items():
        if name not in fields:
            yield Line(str(name), value_text(value), "not a setting of this version")
            continue
        usual = fields[name].get_default(call_default_factory=True)
        plain = usual.model_dump(mode="json") if hasattr(usual, "model_dump") else usual
        if isinstance(plain, Mapping) and isinstance(value, Mapping):
            for inner, one in value.items():
                if plain.get(inner) != one:
                    yield Line(f"{name}.{inner}", value_text(one), value_text(plain.get(inner)))
        elif value != plain and str(value) != str(plain):
            yield Line(str(name), value_text(value), value_text(plain))


def cost(run: RunData) -> list[Line]:
    """What the run took, and what its incidents cost if nothing since their onset is kept."""
    pace = run.course.seconds_per_step(run.live)
    lines = []
    if pace is not None:
        lines.append(Line("a step", f"{number(pace)} s", "median of the last 64"))
    known = run.times[np.isfinite(run.times)]
    if run.live and len(known) > 1:
        lines.append(Line("so far", duration(float(known.max() - known.min())), "first row to last, by the clock"))
    gpus, price = run.setting("gpus"), run.setting("gpu_price")
    if pace is not None and isinstance(gpus, int):
        whole = Cost.of(len(run.steps), pace, gpus, price if isinstance(price, int | float) else None)
        lines.append(Line("the run", str(whole), f"{number(gpus)} GPUs"))
    lines += [Line(f"since step {one.onset:,}", str(one.cost), "if nothing of it is kept") for one in run.incidents[:8]]
    return lines


def coverage(run: RunData) -> list[dict[str, str]]:
    """Each detector: what it sees; the blind ones first."""
    lines = sorted(run.coverage or (), key=lambda line: (_STATES[line.state], line.detector))
    return [
        {
            "detector": line.detector,
            "link": NAMES.get(line.link, line.link),
            "state": line.state,
            "says": shown(line.reason) or (f"reads {line.signal}" if line.signal else ""),
            "fix": shown(line.fix),
        }
        for line in lines
    ]


def samples(run: RunData, room: float = 1.0) -> list[dict[str, Any]]:
    """Steps with samples to look at, those with an alert first, then the latest, and what was picked of each."""
    told = {alert.step for alert in run.alerts}
    steps: dict[int, list[Mapping[str, Any]]] = {}
    for record in run.samples:
        steps.setdefault(record["step"], []).append(record)
    ordered = sorted(steps, key=lambda step: (step not in told, -step))
    left, found = SAMPLE_TEXTS * room, []
    for step in ordered:
        picks: dict[str, list[dict[str, Any]]] = {}
        for line in steps[step]:
            if left <= 0:
                break
            one = _sample(line)
            left -= len(one["prompt"]) + len(one["completion"]) + 400
            picks.setdefault(str(line.get("pick") or "sample"), []).append(one)
        if picks:
            found.append({"step": step, "alert": step in told, "picks": picks})
    return found


def _sample(record: Mapping[str, Any]) -> dict[str, Any]:
    names = ("reward", "gold_score", "advantage", "response_length", "group_id", "index")
    numbers = [Line(name.replace("_", " "), number(record[name])) for name in names if _is_number(record.get(name))]
    parts = record.get("reward_components")
    if isinstance(parts, Mapping) and len(parts) > 1:
        numbers += [Line(shown(name, 60), number(value)) for name, value in parts.items() if _is_number(value)]
    texts = {name: shown(record.get(name, ""), SAMPLE_TEXT) for name in ("prompt", "completion")}
    return {"numbers": numbers, "has_text": "completion" in record or "prompt" in record, **texts}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _date(seconds: Any) -> str:
    if not _is_number(seconds) or not math.isfinite(seconds) or not 0 < seconds < 1e11:
        return ""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
