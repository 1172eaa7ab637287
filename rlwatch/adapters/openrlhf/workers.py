"""What runs inside OpenRLHF's model actors, called through Ray: `self` there is `actor` here.

All actors of a group are called at the same time: DeepSpeed's saving and loading are collectives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rlwatch.responses.levers import Levers

UNLIMITED = 10**9


def call(group: Any, do: Callable[..., Any], *given: Any) -> list[Any]:
    """Run `do(actor, *given)` in every actor of a `RayActorGroup`, and wait: the results in their order.

    Raises:
        RayError: it failed in one of them.
    """
    import ray

    return list(ray.get([handle.__ray_call__.remote(do, *given) for handle in group._actor_handlers]))


def save(actor: Any, name: str, tag: str, client_states: Mapping[str, Any], latest: bool) -> None:
    """Write a checkpoint and delete none: what is written at a halt may be sick, and those before it healthy.

    Args:
        name: `_actor` or `_critic`.
        latest: whether DeepSpeed is to resume from it.
    """
    strategy = actor.strategy
    folder = os.path.join(strategy.args.ckpt.path, name)
    awake(actor, True)
    strategy.save_ckpt(engine_of(actor), folder, tag, UNLIMITED, UNLIMITED, dict(client_states), save_latest=latest)
    awake(actor, False)


def load(actor: Any, name: str, tag: str) -> float:
    """Put weights, optimizer and schedule of a checkpoint back; the learning rate after it.

    Raises:
        FileNotFoundError: DeepSpeed found none.
    """
    strategy = actor.strategy
    awake(actor, True)
    path, _ = strategy.load_ckpt(engine_of(actor), os.path.join(strategy.args.ckpt.path, name), tag)
    rate = _levers(actor).learning_rate
    awake(actor, False)
    if path is None:
        raise FileNotFoundError(f"DeepSpeed finds no checkpoint {tag} in {name}")
    return rate or 0.0


def awake(actor: Any, on: bool) -> None:
    """With `--ds.enable_sleep` the engine's state lies in host memory between two updates."""
    if getattr(actor.strategy.args.ds, "enable_sleep", False):
        (actor.reload_states if on else actor.offload_states)()


def turn(actor: Any, knob: str, value: float) -> None:
    """Set one of `KNOBS` to a value; `lr` is a factor for all learning rates, now and in the rest of the schedule."""
    KNOBS[knob](actor, value)


class Settings(NamedTuple):
    """What an actor trains with: its knobs by name, every group's learning rate, and what the schedule makes of the
    first one's base rate."""

    knobs: dict[str, float]
    rates: list[float]
    factor: float | None


def read(actor: Any) -> Settings:
    """In a model actor: the settings as they are, whoever has changed them. A critic has no knobs of its own."""
    levers = _levers(actor)
    if not hasattr(actor, "actor"):
        return Settings({}, levers.rates, levers.schedule_factor)
    trainer = actor.trainer
    knobs = {
        "max_grad_norm": float(engine_of(actor).gradient_clipping()),
        "clip_range": float(trainer.actor_loss_fn.clip_eps_low),
        "epochs": float(trainer.max_epochs),
        "entropy_coef": float(trainer.args.actor.entropy_coef or 0.0),
    }
    return Settings(knobs, levers.rates, levers.schedule_factor)


def _scale_rates(actor: Any, factor: float) -> None:
    _levers(actor).scale_learning_rates(factor)


def _clip_gradients(actor: Any, limit: float) -> None:
    engine = engine_of(actor)
    engine._config.gradient_clipping = limit
    if hasattr(engine.optimizer, "clip_grad"):
        engine.optimizer.clip_grad = limit


def _clip_range(actor: Any, low: float) -> None:
    loss = actor.trainer.actor_loss_fn
    loss.clip_eps_low, loss.clip_eps_high = low, loss.clip_eps_high * (low / loss.clip_eps_low)


def _epochs(actor: Any, epochs: float) -> None:
    actor.trainer.max_epochs = int(epochs)


def _entropy_coef(actor: Any, value: float) -> None:
    actor.trainer.args.actor.entropy_coef = value


KNOBS: Mapping[str, Callable[[Any, float], None]] = {
    "lr": _scale_rates,
    "max_grad_norm": _clip_gradients,
    "clip_range": _clip_range,
    "epochs": _epochs,
    "entropy_coef": _entropy_coef,
}
"""Knobs that live in the workers (`rlwatch.responses.levers.KNOBS`)."""


def engine_of(actor: Any) -> Any:
    """DeepSpeed's engine of the policy, or of the critic."""
    return actor.actor.model if hasattr(actor, "actor") else actor.critic


def _levers(actor: Any) -> Levers:
    engine = engine_of(actor)
    return Levers([engine.optimizer], [engine.lr_scheduler])
