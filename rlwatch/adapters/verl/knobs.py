"""What remedies can change in a verl run: on the driver, and by verl's own way of running a function in its workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rlwatch.adapters.verl.settings import entry

CALL = "execute_with_func_generator"
"""The method of verl's worker groups that runs a function in every worker; what it returns must be a DataProto."""

READ = {"lr": 0, "kl_coef": 1, "clip_range": 2, "entropy_coef": 3, "max_grad_norm": 4}
"""Knob -> its place in what a worker reports."""


def run_in_workers(group: Any, change: Mapping[str, float] | None = None) -> dict[str, float]:
    """Scale numbers in every worker of a group, and read them: name (`READ`) -> value in the first; NaN for none.

    Args:
        group: a worker group of verl's, the actor's or the critic's.
        change: name -> factor.
    """
    factors = dict(change or {})
    reported = getattr(group, CALL)(_worker_side(factors)).batch["numbers"][0].tolist()
    return {name: reported[place] for name, place in READ.items()}


def _worker_side(factors: dict[str, float]) -> Callable[[Any], Any]:
    """The function that a worker runs. It is pickled by value and imports nothing of ours, so that rlwatch need not
    be installed on the workers' nodes."""

    def work(worker: Any) -> Any:
        import torch
        from verl.protocol import DataProto

        training = getattr(worker, "actor", None) or worker
        engine = training.engine
        groups = list(getattr(engine.optimizer, "param_groups", None) or [])
        loss = (getattr(training.loss_fn, "keywords", None) or {}).get("config")
        rate = factors.get("lr", 1.0)
        if rate != 1.0:
            # Megatron's schedule computes from max_lr, min_lr and init_lr, torch's from base_lrs and initial_lr.
            for group in groups:
                for name in {"lr", "initial_lr", "max_lr", "min_lr"} & set(group):
                    group[name] = group[name] * rate
            for name in ("base_lrs", "_last_lr", "max_lr", "min_lr", "init_lr"):
                found = vars(engine.lr_scheduler).get(name) if engine.lr_scheduler is not None else None
                if isinstance(found, list):
                    setattr(engine.lr_scheduler, name, [each * rate for each in found])
                elif isinstance(found, (int, float)):
                    setattr(engine.lr_scheduler, name, found * rate)
        terms = {
            "kl_coef": ["kl_loss_coef"],
            "clip_range": ["clip_ratio", "clip_ratio_low", "clip_ratio_high"],
            "entropy_coef": ["entropy_coeff"],
        }
        for knob, names in terms.items():
            for name in names:
                if knob in factors and getattr(loss, name, None) is not None:
                    # verl's configurations refuse assignment; the loss reads them at every call.
                    object.__setattr__(loss, name, getattr(loss, name) * factors[knob])
        if "max_grad_norm" in factors:
            engine.optimizer_config.clip_grad *= factors["max_grad_norm"]

        def number(value: Any) -> float:
            return float("nan") if value is None else float(value)

        low = getattr(loss, "clip_ratio_low", None)
        numbers = [
            number(groups[0]["lr"] if groups else None),
            number(getattr(loss, "kl_loss_coef", None) if getattr(loss, "use_kl_loss", False) else None),
            number(low if low is not None else getattr(loss, "clip_ratio", None)),
            number(getattr(loss, "entropy_coeff", None)),
            number(getattr(engine.optimizer_config, "clip_grad", None)),
        ]
        return DataProto.from_dict(tensors={"numbers": torch.tensor([numbers], dtype=torch.float64)})

    return work


def schedule_in_workers(group: Any) -> tuple[float | None, list[float]]:
    """What the schedule makes of the base rate in the group's first worker, None without one; every group's rate."""
    factor, *rates = getattr(group, CALL)(_schedule_side).batch["rates"][0].tolist()
    return (factor if factor == factor else None), rates


def _schedule_side(worker: Any) -> Any:
    """A worker runs it; imports nothing of ours, as above."""
    import torch
    from verl.protocol import DataProto

    engine = (getattr(worker, "actor", None) or worker).engine
    rates = [float(group["lr"]) for group in getattr(engine.optimizer, "param_groups", None) or []]
    known = vars(engine.lr_scheduler) if engine.lr_scheduler is not None else {}
    base = (known.get("base_lrs") or [known.get("max_lr")])[0]  # torch's, Megatron's
    factor = rates[0] / base if rates and base else float("nan")
    return DataProto.from_dict(tensors={"rates": torch.tensor([[factor, *rates]], dtype=torch.float64)})


class WorkerKnob:
    """A number in the workers as something that can be read and set.

    Attributes:
        name: as in `READ`.
        factor: by how much it was changed in this run, all together.
    """

    def __init__(self, name: str, groups: list[Any], value: float) -> None:
        self.factor = 1.0
        self.name = name
        self._groups = groups
        self._value = value

    @property
    def value(self) -> float:
        """In the actor's first worker; only the learning rate has a schedule, and is asked for."""
        return run_in_workers(self._groups[0])["lr"] if self.name == "lr" else self._value

    @value.setter
    def value(self, to: float) -> None:
        factor = to / self.value
        self.change(factor)
        self.factor *= factor

    def seen(self, value: float) -> None:
        """What a worker has just reported: others may change it too."""
        if value == value:
            self._value = value

    def change(self, factor: float) -> None:
        """Multiply it, in every worker of every group, without counting that in `factor`."""
        if factor != 1.0:
            for group in self._groups:
                run_in_workers(group, {self.name: factor})
            self._value *= factor


def knobs_of(trainer: Any) -> dict[str, Any]:
    """The knobs that this run reads at every step (`rlwatch.responses.levers.KNOBS`).

    A coefficient that is 0, or of a term that is switched off, is none. The learning rate of the critic goes along with
    the actor's. Worker groups that cannot run a function have none of the knobs that live in the workers.
    """
    knobs: dict[str, Any] = {}
    actor = trainer.actor_rollout_wg
    if callable(getattr(actor, CALL, None)):
        critic = [trainer.critic_wg] if getattr(trainer, "use_critic", False) else []
        for name, now in run_in_workers(actor).items():
            if now == now and now > 0:
                groups = [actor, *critic] if name in ("lr", "max_grad_norm") else [actor]
                knobs[name] = (WorkerKnob(name, groups, now), "value")
    if entry(trainer.config, "algorithm.use_kl_in_reward") and trainer.kl_ctrl_in_reward.value > 0:
        knobs["kl_coef"] = (trainer.kl_ctrl_in_reward, "value")  # of the two, the one the reward sees
    return knobs
