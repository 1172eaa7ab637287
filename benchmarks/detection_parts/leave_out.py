"""Would limits fitted without a project have judged it the same?

The defaults were set with the whole corpus in sight, so a score on it flatters them. Here each detector that speaks on
it has a dial, its main limits moved together in seven positions, and a fixed rule sets it: of the positions at which
no healthy run of the *other* projects has an alert, those that rightly name most of their failures, and of these the
middle one. The project left out is then judged with that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detection_parts.runs import Run
from detection_parts.score import Said, Score, right, score
from detection_parts.tables import markdown, terminal
from rlwatch.detectors.registry import detector_classes
from rlwatch.guest import Guest
from rlwatch.intake import Intake
from rlwatch.observation import Observation

DIALS: dict[str, dict[str, Sequence[float]]] = {
    "entropy_collapse": {
        "warning_ratio": (0.6, 0.4, 0.25, 0.15, 0.1, 0.06, 0.04),
        "sudden_ratio": (0.8, 0.6, 0.45, 0.3, 0.2, 0.12, 0.08),
    },
    "entropy_explosion": {
        "warning_times": (1.3, 1.6, 2.0, 2.5, 3.5, 5.0, 7.0),
        "slow_times": (2.0, 2.5, 3.2, 4.0, 5.5, 8.0, 11.0),
        "alone_times": (2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 14.0),
    },
    "kl_explosion": {
        "warning_level": (0.05, 0.1, 0.15, 0.25, 0.4, 0.6, 1.0),
        "creep_level": (0.1, 0.15, 0.25, 0.4, 0.6, 1.0, 1.6),
    },
    "reward_collapse": {
        "warning_left": (0.75, 0.6, 0.45, 0.3, 0.2, 0.13, 0.08),
        "sigma": (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0),
    },
    "reward_degenerate": {
        "dead_rows": (8, 11, 15, 20, 27, 36, 48),
        "tied_rows": (16, 22, 30, 40, 54, 72, 96),
    },
    "reward_drift": {"noise": (2.0, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0), "share": (0.1, 0.14, 0.18, 0.25, 0.33, 0.45, 0.6)},
    "proxy_divergence": {
        "alone_up": (0.1, 0.15, 0.2, 0.3, 0.45, 0.65, 0.9),
        "sigma": (2.0, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0),
    },
    "length_exploitation": {
        "growth": (1.1, 1.2, 1.3, 1.4, 1.6, 2.0, 2.6),
        "shrink": (0.75, 0.65, 0.5, 0.4, 0.3, 0.2, 0.12),
    },
    "gradient_spike": {
        "warning_times": (2.0, 3.0, 4.0, 6.0, 9.0, 14.0, 20.0),
        "warning_sigma": (2.0, 3.0, 4.5, 6.0, 7.5, 9.0, 12.0),
    },
    "clip_fraction": {"warning_level": (0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75)},
}
"""Detector -> setting -> values from touchy to dull; the fourth is the default."""

POSITIONS, DEFAULT = 7, 3
Told = dict[tuple[str, int], dict[str, list[Said]]]
"""Detector and position -> run -> alerts."""


def leave_one_out(runs: Sequence[Run]) -> tuple[dict[str, str], dict[str, Any]]:
    """Two tables in Markdown by their place in detection.md, also printed; and the same for JSON."""
    told = _all_told(runs)
    rows = []
    for project in sorted({run.project for run in runs}):
        others = [run for run in runs if run.project != project]
        chosen = {detector: fitted(detector, told, others) for detector in DIALS}
        mine = [run for run in runs if run.project == project]
        moved = [f"{name} {position - DEFAULT:+d}" for name, position in chosen.items() if position != DEFAULT]
        rows.append([
            project,
            _cells(score(mine, _union(told, mine, dict.fromkeys(DIALS, DEFAULT)))),
            _cells(score(mine, _union(told, mine, chosen))),
            ", ".join(moved) or "none",
        ])
    head = ["project left out", "with the defaults", "with limits fitted on the others", "dials moved (+: duller)"]
    margins = [[name, *_margin(name, told, runs)] for name in DIALS]
    margin_head = ["detector", "its limits", "default", "result unchanged from", "to"]
    print(f"\nLeave one project out\n{terminal(head, rows)}\n\nHow far each dial moves without a change on any run")
    print(terminal(margin_head, margins))
    tables = {"leave one out": markdown(head, rows), "margins": markdown(margin_head, margins)}
    return tables, {"projects": rows, "margins": margins}


def fitted(detector: str, told: Told, others: Sequence[Run]) -> int:
    """The position that the rule of this file gives on those runs."""
    silent = [at for at in range(POSITIONS) if not _wrong(told[detector, at], others)] or [POSITIONS - 1]
    most = max(_named(told[detector, at], others) for at in silent)
    best = [at for at in silent if _named(told[detector, at], others) == most]
    return best[len(best) // 2]


def _wrong(said: Mapping[str, Sequence[Said]], runs: Sequence[Run]) -> int:
    return sum(bool(said[run.name]) for run in runs if not run.failed)


def _named(said: Mapping[str, Sequence[Said]], runs: Sequence[Run]) -> int:
    return sum(any(right(run, alert.detector, {}) for alert in said[run.name]) for run in runs if run.failed)


def _margin(detector: str, told: Told, runs: Sequence[Run]) -> list[str]:
    """The stretch of positions around the default in which no run is judged otherwise than at the default."""

    def judged(at: int) -> list[bool]:
        return [bool(told[detector, at][run.name]) for run in runs]

    low = high = DEFAULT
    while low > 0 and judged(low - 1) == judged(DEFAULT):
        low -= 1
    while high < POSITIONS - 1 and judged(high + 1) == judged(DEFAULT):
        high += 1
    dial = DIALS[detector]
    return [", ".join(dial), *(", ".join(f"{values[at]:g}" for values in dial.values()) for at in (DEFAULT, low, high))]


def _all_told(runs: Sequence[Run]) -> Told:
    told: Told = {(name, at): {} for name in DIALS for at in range(POSITIONS)}
    for run in runs:
        rows = list(_observations(run))
        for name, at in told:
            one = detector_classes()[name]({setting: values[at] for setting, values in DIALS[name].items()})
            alerts = [alert for row in rows if (alert := one.update(row)) is not None]
            told[name, at][run.name] = [Said(alert.step, alert.severity.value, name) for alert in alerts]
    return told


def _observations(run: Run) -> list[Observation]:
    intake = Intake(Guest(), run.signal_map)
    return [intake.observe(metrics, {}, step)[0] for step, metrics in run.rows]


def _union(told: Told, runs: Sequence[Run], positions: Mapping[str, int]) -> dict[str, list[Said]]:
    return {run.name: [alert for name, at in positions.items() for alert in told[name, at][run.name]] for run in runs}


def _cells(found: Score) -> str:
    parts = []
    if found.healthy:
        parts.append(f"{found.wrong_alerts} of {found.healthy} healthy alerted ({found.wrong_criticals} critical)")
    if found.failed:
        parts.append(f"{found.told} of {found.failed} failed told, {found.named} named")
    return "; ".join(parts)
