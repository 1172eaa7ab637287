"""What rlwatch says to a labelled run, and what fixed rules say, which its rule language runs."""

from __future__ import annotations

from typing import Any

from detection_parts.runs import Run, canonical
from detection_parts.score import Said
from rlwatch import Watch

RULES = {
    "kl > 0.35 for 5": ("kl_explosion", "kl_controller"),
    "grad_norm > 12 for 3": ("gradient_spike",),
    "mean(entropy, 10) < 1.8": ("entropy_collapse",),
    "mean(clip_fraction, 6) > 0.35": ("clip_fraction",),
}
"""Guards as presets in circulation give them -> our detectors that say the same."""


def watched(run: Run, **settings: Any) -> list[Said]:
    """All alerts, row by row as `rlwatch scan` replays them. RuntimeError where a part of rlwatch failed."""
    with Watch(
        on_critical="continue", record=False, console=False, signal_map=_signals_only(run), **settings
    ) as watch:
        said = [
            Said(alert.step, alert.severity.value, alert.detector)
            for step, metrics in run.rows
            for alert in watch.log(metrics, step=step).alerts
        ]
    if watch.failures:
        raise RuntimeError(f"{run.name} is not judged by all of rlwatch: {watch.failures}")
    return said


def _signals_only(run: Run) -> dict[str, str]:
    return {name: key for name, key in run.signal_map.items() if name != "step"}


def ruled(run: Run) -> list[Said]:
    """The alerts of the fixed rules alone; approx_kl stands in where no KL to the reference is logged."""
    with Watch(on_critical="continue", record=False, console=False, rules=list(RULES)) as watch:
        said = []
        for row in canonical(run):
            signals = row["signals"]
            if "approx_kl" in signals:
                signals.setdefault("kl", signals["approx_kl"])
            said += [
                Said(alert.step, alert.severity.value, alert.detector.removeprefix("rule:"))
                for alert in watch.log(signals, step=row["step"]).alerts
                if alert.detector.startswith("rule:")
            ]
        return said
