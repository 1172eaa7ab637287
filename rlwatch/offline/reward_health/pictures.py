"""Pictures of a run's rewards: their distribution, length, training, calibration; each where there are data for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlwatch.offline.reward_health.case import Case
from rlwatch.offline.reward_health.checks.calibration import bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rlwatch.observation import FloatArray

_RUN, _OTHER, _FAINT = "#2f80c8", "#c8641b", "#737d87"
_MOST = 5000  # points that are drawn


class MissingMatplotlibError(Exception):
    """matplotlib is not installed; the text says what to install."""


def draw(case: Case, folder: Path) -> list[Path]:
    """Writes the PNG files for which there are data; raises `MissingMatplotlibError`, `OSError`."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingMatplotlibError("pictures need matplotlib: pip install 'rlwatch[plots]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, drawer in _PICTURES.items():
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=_FAINT, alpha=0.25, linewidth=0.6)
        if drawer(case, axes):
            figure.savefig(folder / f"{name}.png", dpi=150)
            drawn.append(folder / f"{name}.png")
    return drawn


def _rewards(case: Case, axes: Axes) -> bool:
    """The distribution of the reward, with the reference's."""
    mine = _finite(case.run.get("reward"))
    other = _finite(case.reference.get("reward")) if case.reference else None
    if mine is None:
        return False
    both = [mine, *([other] if other is not None else [])]
    values = np.unique(np.concatenate(both))
    edges: Any = np.histogram_bin_edges(np.concatenate(both), 40)
    if len(values) <= 20 and len(values) > 1:
        half = np.diff(values).min() / 2
        edges = np.sort(np.concatenate([values - 0.6 * half, values + 0.6 * half]))
    for side, name, colour in zip(both, ("run", "reference"), (_RUN, _OTHER), strict=False):
        weights = np.full(side.size, 1 / side.size)
        axes.hist(side, edges, weights=weights, color=colour, alpha=0.6, label=f"{name}: {side.size:,} samples")
    axes.set(xlabel="reward", ylabel="share of samples", title="Rewards")
    axes.legend(frameon=False)
    return True


def _length(case: Case, axes: Axes) -> bool:
    """Reward against length, each less its mean over the prompt (and step)."""
    reward, length, group = case.run.get("reward"), case.run.get("length"), case.run.group
    if reward is None or length is None:
        return False
    from rlwatch.offline.reward_health.statistics import overall, within

    columns, cluster = {"reward": reward, "length": length}, np.arange(case.run.size)
    inside = within(columns, group, cluster) if group is not None else None
    data = inside if inside is not None and inside.groups else overall(columns, cluster)
    x, y = data.columns["length"], data.columns["reward"]
    if not x.size:
        return False
    at = np.random.default_rng(0).choice(x.size, min(_MOST, x.size), replace=False)
    axes.scatter(x[at], y[at], s=8, alpha=0.35, color=_RUN, linewidths=0)
    of = "prompt's mean" if data is inside else "mean"
    axes.set(xlabel=f"length less the {of}, {case.run.length_unit}", ylabel=f"reward less the {of}")
    axes.set_title("Reward and length within prompts" if data is inside else "Reward and length over all samples")
    return True


def _training(case: Case, axes: Axes) -> bool:
    """Reward and gold over the steps, each in its own sd from its start."""
    step, reward, gold = (case.run.get(role) for role in ("step", "reward", "gold"))
    if step is None or reward is None or len(np.unique(step[np.isfinite(step)])) < 2:
        return False
    for name, values, colour in (("reward", reward, _RUN), ("gold", gold, _OTHER)):
        if values is None:
            continue
        held = np.isfinite(values) & np.isfinite(step)
        at, ids, counts = np.unique(step[held], return_inverse=True, return_counts=True)
        means = np.bincount(ids, values[held]) / counts
        axes.plot(at, means, color=colour, alpha=0.3, linewidth=0.8)
        size = max(1, len(at) // 20)
        kernel = np.ones(size) / size
        if len(at) > size:
            axes.plot(np.convolve(at, kernel, "valid"), np.convolve(means, kernel, "valid"), color=colour, label=name)
        else:
            axes.plot(at, means, color=colour, label=name)
    axes.set(xlabel="step", ylabel="mean over the step's samples", title="Over training")
    axes.legend(frameon=False)
    return True


def _calibration(case: Case, axes: Axes) -> bool:
    """Mean gold score of each tenth of the rewards."""
    reward, gold = case.run.get("reward"), case.run.get("gold")
    if reward is None or gold is None:
        return False
    held = np.isfinite(reward) & np.isfinite(gold)
    made = bins(reward[held], gold[held]) if held.sum() > 1 else []
    if len(made) < 2:
        return False
    x, y, error = (np.asarray([each[name] for each in made]) for name in ("reward", "gold", "error"))
    axes.errorbar(x, y, 1.96 * error, color=_RUN, marker="o", capsize=3)
    axes.set(xlabel="mean reward of the bin", ylabel="mean gold score, 95 %", title="Gold by tenths of the reward")
    return True


_PICTURES: dict[str, Callable[[Case, Axes], bool]] = {
    "rewards": _rewards,
    "length": _length,
    "training": _training,
    "calibration": _calibration,
}


def _finite(values: FloatArray | None) -> FloatArray | None:
    return None if values is None else values[np.isfinite(values)]
