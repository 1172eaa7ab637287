"""How far the updates move the weights: measured inside the model actors, sent with the metrics of their step.

Every tenth update, as in TRL and PyTorch (`rlwatch.adapters.step_norms`). The norms are those of the weights that the
engine gets, bf16 where the model is: of a change below their precision they show what survives rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rlwatch.adapters.openrlhf import workers
from rlwatch.adapters.step_norms import COPY, EVERY
from rlwatch.guest import Guest

if TYPE_CHECKING:
    from torch import Tensor

PART = "the norms of updates"
MARK = "_rlwatch_norms"
OURS = "rlwatch/"
"""Begins the keys that go with a step's metrics; they are taken out again before OpenRLHF's trackers see them."""

STEP, WEIGHTS = "/step_norm", "/weight_norm"
POLICY, VALUE = "policy", "value"
PARTITIONED = 3
"""The ZeRO stage that leaves a worker no whole weights."""


class Norms:
    """Wraps `optimizer_step` of one worker's strategy and `ppo_train` of its trainer, on the instances."""

    def __init__(self, actor: Any, role: str) -> None:
        from rlwatch.functional.norms import UpdateNorms

        self._engine = workers.engine_of(actor)
        self._measure = UpdateNorms(self._engine.module, None, EVERY, COPY)
        self._role = role
        self._guest = Guest()
        self._found: dict[str, Tensor] = {}
        self._step, self._train = actor.strategy.optimizer_step, actor.trainer.ppo_train
        actor.strategy.optimizer_step, actor.trainer.ppo_train = self.optimizer_step, self.ppo_train

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """OpenRLHF's own, measured where it is to change the weights, and has."""
        before = self._guest.attempt(PART, self._begin)
        self._step(*args, **kwargs)
        if before is not None:
            self._guest.attempt(PART, self._end, before)

    def _begin(self) -> int | None:
        if not self._engine.is_gradient_accumulation_boundary():
            return None
        self._measure.begin()
        return self._applied()

    def _end(self, before: int) -> None:
        if self._applied() > before:
            self._measure.end()
            self._found = self._measure.values or self._found

    def _applied(self) -> int:
        """Updates so far, without those that an overflow has skipped."""
        return int(self._engine.global_steps) - int(self._engine.skipped_steps)

    def ppo_train(self, *args: Any, **kwargs: Any) -> Any:
        """OpenRLHF's own, which has waited for all of its updates when it returns its metrics."""
        status = self._train(*args, **kwargs)
        return {**status, **(self._guest.attempt(PART, self._take) or {})}

    def _take(self) -> dict[str, float]:
        found, self._found = self._found, {}
        names = {STEP: "update_norm", WEIGHTS: "weight_norm"}
        return {OURS + self._role + key: float(found[name]) for key, name in names.items() if name in found}


def measure(actor: Any, role: str) -> bool:
    """In a model actor: from now on its updates are measured. False where that cannot be done."""
    trainer = getattr(actor, "trainer", None)
    if hasattr(trainer, MARK):
        return True
    engine = workers.engine_of(actor)
    if not callable(getattr(trainer, "ppo_train", None)) or not hasattr(engine, "is_gradient_accumulation_boundary"):
        return False
    if getattr(actor.strategy.args.ds, "zero_stage", 0) >= PARTITIONED:
        return False
    setattr(trainer, MARK, Norms(actor, role))
    return True


def taken(status: Any) -> dict[str, float]:
    """Take our keys out of a step's metrics: the norms by canonical name, for a step that was measured."""
    if not isinstance(status, dict):
        return {}
    ours = {key.removeprefix(OURS): status.pop(key) for key in [k for k in status if str(k).startswith(OURS)]}
    return signals(ours)


def signals(found: Mapping[str, float]) -> dict[str, float]:
    """Norms of policy and critic as signals; each role's apart only where there are both."""
    roles = [role for role in (POLICY, VALUE) if role + STEP in found]
    if not roles:
        return {}
    named = {f"{role}_step_norm": found[role + STEP] for role in roles}
    whole = {
        "update_norm": math.hypot(*(found[role + STEP] for role in roles)),
        "weight_norm": math.hypot(*(found[role + WEIGHTS] for role in roles)),
    }
    return {**whole, **named} if len(roles) > 1 else whole
