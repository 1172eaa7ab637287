"""What a remedy can pull: learning rates wherever they live, and the numbers that a user hands over as knobs."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

KNOBS = {
    "kl_coef": "coefficient of the KL penalty (TRL's beta)",
    "lr": "learning rate, where the loop sets it itself at every step",
    "max_grad_norm": "norm at which gradients are clipped",
    "reward_clip": "bound of the absolute reward; None or infinite for none",
    "reward_scale": "factor on the rewards",
    "clip_range": "PPO's clip range",
    "epochs": "passes over a batch of rollouts",
    "entropy_coef": "coefficient of the entropy bonus",
    "value_coef": "weight of the critic's loss beside the policy's",
    "sync_every": "updates from one copy of the weights to the sampler to the next",
    "temperature": "of sampling",
    "normalize_advantages": "whether the advantages are divided by their standard deviation",
}
"""The knobs that the standard remedies know."""

_GROUP_RATES = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")
_SCHEDULER_RATES = ("base_lrs", "_last_lr", "max_lrs", "min_lrs", "eta_min")


@dataclass(frozen=True, slots=True)
class Knob:
    """A number that can be read and set while training goes on."""

    get: Callable[[], Any]
    set: Callable[[Any], Any]


def knob(name: str, spec: Any) -> Knob:
    """A knob from a pair (get, set) of functions, or (object, "attribute.path"), or (dict, "key").

    Raises:
        ValueError: it is neither, or there is no such attribute or key.
    """
    if isinstance(spec, Knob):
        return spec
    if isinstance(spec, tuple) and len(spec) == 2:
        first, second = spec
        if callable(first) and callable(second):
            return Knob(first, second)
        if isinstance(second, str) and isinstance(first, dict) and second in first:
            return Knob(lambda: first[second], lambda value: first.__setitem__(second, value))
        if isinstance(second, str):
            return _attribute(name, first, second)
    raise ValueError(f'knob {name!r} must be a pair of functions (get, set) or (object, "attribute"), got {spec!r}')


def _attribute(name: str, owner: Any, path: str) -> Knob:
    *way, last = path.split(".")

    def holder() -> Any:
        found = owner
        for step in way:
            found = getattr(found, step)
        return found

    try:
        getattr(holder(), last)
    except AttributeError as error:
        raise ValueError(f"knob {name!r}: {error}") from None
    return Knob(lambda: getattr(holder(), last), lambda value: setattr(holder(), last, value))


class Levers:
    """The live optimizers, schedulers and knobs of a run.

    Args:
        optimizers: anything with `param_groups`.
        schedulers: torch's, wrapped ones too; anything else is left alone.
        knobs: name -> `knob` specification. Names beyond `KNOBS` are for the user's own remedies.

    Raises:
        ValueError: a knob's specification is wrong.

    Attributes:
        first: every knob's value when the run began.
    """

    def __init__(
        self, optimizers: Iterable[Any] = (), schedulers: Iterable[Any] = (), knobs: Mapping[str, Any] | None = None
    ) -> None:
        self.optimizers = list(optimizers)
        self.schedulers = list(schedulers)
        self.knobs = {name: knob(name, spec) for name, spec in (knobs or {}).items()}
        self.first = self.values()

    def __contains__(self, name: str) -> bool:
        return name in self.knobs

    def __getitem__(self, name: str) -> Any:
        return self.knobs[name].get()

    def __setitem__(self, name: str, value: Any) -> None:
        self.knobs[name].set(value)

    def misspelt(self) -> list[str]:
        """Sentences about knobs whose name is nearly a known one: the standard remedies would not find them."""
        found = []
        for name in self.knobs:
            near = difflib.get_close_matches(name, KNOBS, n=1, cutoff=0.7)
            if name not in KNOBS and near:
                found.append(f"knob {name!r} is for remedies of your own; the standard ones know {near[0]!r}")
        return found

    def values(self) -> dict[str, Any]:
        """Every knob's value now."""
        return {name: each.get() for name, each in self.knobs.items()}

    def put_back(self, values: Mapping[str, Any]) -> None:
        """Set the knobs to what `values` gave."""
        for name, value in values.items():
            if name in self.knobs and self.knobs[name].get() != value:
                self.knobs[name].set(value)

    @property
    def learning_rate(self) -> float | None:
        """The first group's learning rate."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                return float(group["lr"])
        return float(self["lr"]) if "lr" in self else None

    @property
    def rates(self) -> list[float]:
        """Every group's learning rate where it is a plain number."""
        rates = [group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups]
        return [rate for rate in rates if isinstance(rate, float)]

    @property
    def plain_rate(self) -> float | None:
        """The first group's learning rate where it is a plain number, which can be read at any time."""
        rates = [group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups]
        return rates[0] if rates and isinstance(rates[0], float) else None

    @property
    def schedule_factor(self) -> float | None:
        """What the schedule makes of its base rate at present; None without a schedule that has one, or a plain rate.

        Remedies scale both, so that it stays what it is.
        """
        rate = self.plain_rate
        for scheduler in _all_schedulers(self.schedulers):
            base = vars(scheduler).get("base_lrs")
            if rate is not None and base and isinstance(base[0], float) and base[0] > 0.0:
                return rate / base[0]
        return None

    def scale_learning_rates(self, factor: float) -> None:
        """Multiply every learning rate, now and in all the schedulers' future.

        A scheduler computes the next rate from its base rates (LambdaLR, SequentialLR, warm restarts), from the
        present one (cosine, exponential, plateau) or from what it wrote into the groups (one-cycle): all are scaled,
        the floors and peaks of a schedule too, so that the rest of it is what it would have been times `factor`.
        """
        scaled: set[int] = set()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for name in _GROUP_RATES:
                    if name in group:
                        group[name] = _scaled(group[name], factor, scaled)
        for scheduler in _all_schedulers(self.schedulers):
            for name in _SCHEDULER_RATES:
                if name in vars(scheduler):
                    setattr(scheduler, name, _scaled(getattr(scheduler, name), factor, scaled))
        if "lr" in self:
            self["lr"] = self["lr"] * factor


def _all_schedulers(schedulers: Iterable[Any]) -> Iterator[Any]:
    """The schedulers, those inside wrappers (accelerate) and those that others are made of, each once."""
    seen: set[int] = set()
    waiting = list(schedulers)
    while waiting:
        scheduler = waiting.pop(0)
        if scheduler is None or id(scheduler) in seen or not hasattr(scheduler, "__dict__"):
            continue
        seen.add(id(scheduler))
        waiting += [vars(scheduler).get("scheduler"), *vars(scheduler).get("_schedulers", [])]
        yield scheduler


def _scaled(rate: Any, factor: float, scaled: set[int]) -> Any:
    """A rate, or a list of them; a tensor is scaled where it is, since captured graphs refer to it.

    Args:
        scaled: the tensors scaled so far: up to torch 2.8 a group's rate and its schedule's base rate are one tensor.
    """
    if isinstance(rate, (list, tuple)):
        return type(rate)(_scaled(each, factor, scaled) for each in rate)
    if hasattr(rate, "mul_"):
        if id(rate) in scaled:
            return rate
        scaled.add(id(rate))
        return rate.mul_(factor)
    return rate * factor if isinstance(rate, (int, float)) else rate
