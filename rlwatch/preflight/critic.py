"""Can the critic fit one fixed batch? One that cannot fit what it sees each time will not fit what changes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.preflight.checks import PreflightError, Report
from rlwatch.preflight.loading import words

if TYPE_CHECKING:
    import torch

_GOOD, _POOR = 0.9, 0.5
_SCALE = 10.0
_ALIKE = 0.01


def check_critic(
    critic: torch.nn.Module,
    observations: Any,
    returns: Any,
    *,
    steps: int = 500,
    learning_rate: float = 1e-3,
    forward: Callable[[torch.nn.Module, Any], torch.Tensor] | None = None,
    seed: int = 0,
) -> Report:
    """Trains a copy of the critic on one batch with Adam, and looks at the explained variance.

    The critic itself is not changed. Gradients are not clipped: what is asked is whether it can, not how fast.

    Args:
        critic: gives values for observations, shape (n,) or (n, 1).
        observations: what it takes: a tensor, an array, or a dict for a critic called with keywords.
        returns: targets, shape (n,).
        forward: critic and observations -> values, where calling it is not enough.

    Raises:
        PreflightError: there is no target, or their number is not that of the values.
        ModuleNotFoundError: PyTorch is missing.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("a critic needs PyTorch: pip install 'rlwatch[torch]'", name=error.name) from None
    report = Report("critic")
    targets = torch.as_tensor(np.asarray(_host(returns), dtype=np.float32)).reshape(-1)
    if not _targets(report, targets.double().numpy()):
        return report
    model = copy.deepcopy(critic).float().train()
    inputs = _inputs(observations)
    call = forward or _call
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            before = call(model, inputs)
            if not _shape(report, before, targets):
                return report
            other = copy.deepcopy(model)
            course = _fit(model, lambda: call(model, inputs), targets, steps, learning_rate)
            even = (targets - targets.mean()) / targets.std()
            scaled = _fit(other, lambda: call(other, inputs), even, steps, learning_rate)
        except Exception as error:
            if isinstance(error, PreflightError):
                raise
            report.add("fit", "fail", f"the critic raises: {words(error)}", "call it by hand with one batch")
            return report
    _judge(report, course, scaled, steps)
    idle = [name for name, value in model.named_parameters() if value.requires_grad and _idle(value)]
    if idle:
        fix = "they are not in the graph of the value, or sit behind a dead unit"
        says = f"{len(idle)} parameters get no gradient ({', '.join(idle[:3])})"
        report.add("gradient", "warning", says, fix, evidence={"idle": idle})
    else:
        report.add("gradient", "pass", "every trainable parameter gets a gradient")
    return report


def _host(values: Any) -> Any:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values


def _inputs(observations: Any) -> Any:
    import torch

    if isinstance(observations, dict):
        return {name: _inputs(value) for name, value in observations.items()}
    if isinstance(observations, torch.Tensor):
        return observations.detach().cpu()
    array = np.asarray(observations)
    return torch.as_tensor(array.astype(np.float32) if array.dtype.kind == "f" else array)


def _call(model: Any, inputs: Any) -> Any:
    found = model(**inputs) if isinstance(inputs, dict) else model(inputs)
    if not hasattr(found, "numel"):  # the output object of a Hugging Face model
        parts = (getattr(found, name, None) for name in ("value", "values", "logits"))
        found = next((part for part in parts if hasattr(part, "numel")), found)
    return found


def _targets(report: Report, targets: FloatArray) -> bool:
    if targets.size < 2:
        raise PreflightError(f"a batch of {targets.size} targets: give at least two returns")
    bad = int((~np.isfinite(targets)).sum())
    if bad:
        report.add("targets", "fail", f"{bad} of {targets.size} returns are not finite", "find where NaN comes from")
        return False
    if targets.std() <= _ALIKE * abs(targets.mean()):
        says = f"the {targets.size} returns hardly differ, {targets.mean():.4g} +- {targets.std():.2g}: nothing to fit"
        report.add("targets", "not evaluated", says, "take a batch with different returns")
        return False
    size = float(max(abs(targets.mean()), targets.std()))
    evidence = {"mean": float(targets.mean()), "std": float(targets.std())}
    says = f"{targets.size} returns, {targets.mean():.4g} +- {targets.std():.3g}"
    if size > _SCALE:
        fix = (
            "normalise returns or rewards (VecNormalize, value normalisation), or a critic spends its start on the mean"
        )
        report.add("targets", "warning", f"{says}: far from the scale of a new critic's values", fix, evidence=evidence)
    else:
        report.add("targets", "pass", says, evidence=evidence)
    return True


def _shape(report: Report, values: Any, targets: Any) -> bool:
    if not hasattr(values, "shape") or not hasattr(values, "numel"):
        raise PreflightError(f"the critic gives {type(values).__name__}, not a tensor of values")
    if values.numel() != targets.numel():
        shape = "x".join(map(str, values.shape))
        says = f"values of the shape {shape} for {targets.numel()} returns"
        report.add("shape", "fail", says, "give one value an observation")
        return False
    if values.dim() > 1:
        says = f"one value an observation, shape {tuple(values.shape)}: squeeze it, for (n, 1) less (n,) is (n, n)"
        report.add("shape", "pass", says)
    else:
        report.add("shape", "pass", f"one value an observation, shape {tuple(values.shape)}")
    return True


def _fit(model: Any, values: Callable[[], Any], targets: Any, steps: int, rate: float) -> list[float]:
    """Explained variance at the start and after each step."""
    import torch

    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=rate)
    whole = float(targets.var(unbiased=False))
    course = []
    for _ in range(steps + 1):
        away = values().reshape(-1) - targets
        course.append(1.0 - float(away.detach().var(unbiased=False)) / whole)
        optimizer.zero_grad()
        away.square().mean().backward()
        if not np.isfinite(course[-1]):
            break
        optimizer.step()
    return course


def _judge(report: Report, course: list[float], scaled: list[float], steps: int) -> None:
    """`course` with the returns as they are, `scaled` with returns of mean 0 and deviation 1."""
    last = -max(1, steps // 10)
    best, best_scaled = max(course[last:]), max(scaled[last:])
    says = f"explained variance {course[0]:.2f} before, {best:.3f} after {len(course) - 1} steps on one batch"
    evidence = {"before": course[0], "after": best, "after_scaled": best_scaled, "steps": len(course) - 1}
    if not all(np.isfinite(course)):
        says, fix = "the value loss is no longer finite", "lower the rate, scale the returns"
        report.add("fit", "fail", says, fix, evidence=evidence)
    elif best >= _GOOD:
        report.add("fit", "pass", says, evidence=evidence)
    elif best_scaled >= _GOOD:
        fix = "normalise returns or rewards (VecNormalize, value normalisation)"
        says += (
            f", {best_scaled:.3f} if the returns are scaled to mean 0 and deviation 1: only their scale is in the way"
        )
        report.add("fit", "warning", says, fix, evidence=evidence)
    elif max(best, best_scaled) >= _POOR:
        fix = "a larger rate or more steps; else more units, or normalised observations"
        says += f", {best_scaled:.3f} with scaled returns: it fits in part"
        report.add("fit", "warning", says, fix, evidence=evidence)
    else:
        fix = "look at the shapes in the loss, at the scale of observations, at frozen layers; "
        fix += "where equal observations have other returns, no critic can"
        says += f", {best_scaled:.3f} with scaled returns: it does not fit what it sees each time"
        report.add("fit", "fail", says, fix, evidence=evidence)


def _idle(value: Any) -> bool:
    return value.grad is None or not bool(value.grad.abs().sum() > 0)
