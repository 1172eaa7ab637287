"""How far each update moves the weights: measured now and then beside the loop, for the row that comes next."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from rlwatch.deferred import DeferredRow
from rlwatch.guest import Guest
from rlwatch.responses.host import capturing
from rlwatch.responses.skip import parameters

EVERY, AT_LEAST_EVERY = 10, 48
"""Updates from one measurement to the next: as a rule, and at most. Coverage calls 50 rows without a signal blind."""

SHARE = 0.001
"""Of the time between two updates that measuring may take on average, where that keeps to `AT_LEAST_EVERY`."""

COPY = 2**25
"""Bytes of weights copied for a measurement (32 MiB); of more, an even sample stands for all."""

CRITICS = ("critic", "value", "value_head", "v_head", "value_net", "value_network", "value_function", "value_model")
"""Names under which a model keeps its critic."""

_PART = "the norms of updates"


def critic_of(model: Any) -> list[Any]:
    """The parameters of the parts of a model that are named as a critic is; [] where there are none."""
    inner = getattr(model, "module", model)  # DistributedDataParallel keeps the model there
    children = dict(inner.named_children()) if hasattr(inner, "named_children") else {}
    return [each for name in CRITICS if name in children for each in children[name].parameters()]


class StepNorms:
    """Measures `update_norm`, `weight_norm` and, with a critic, `policy_step_norm` and `value_step_norm`.

    Hooks on the optimizers do it at every tenth update, less often where updates are quick: it is to cost .1 % of the
    time. An update that was withheld is not measured. Nothing waits for an accelerator: the values go with the first
    row for which they have arrived. It never raises into the loop.

    Args:
        optimizers: torch's, unwrapped; those without step hooks are left out.
        guest: where a failure is noted.
        critic: parameters of the critic.
    """

    def __init__(self, optimizers: Sequence[Any], guest: Guest, critic: Sequence[Any] = ()) -> None:
        ids = {id(each) for each in critic}
        able = [each for each in optimizers if hasattr(each, "register_step_pre_hook")]
        self._each = [_OneOptimizer(each, ids, guest) for each in able] if len(able) == len(optimizers) else []

    def take(self) -> dict[str, float]:
        """What has been measured since the last call, over all optimizers; mostly nothing."""
        if not self._each or not all(one.arrived() for one in self._each):
            return {}
        found = [one.values for one in self._each]
        for one in self._each:
            one.values = {}
        return {name: math.hypot(*(values.get(name, 0.0) for values in found)) for name in found[0]}

    def remove(self) -> None:
        """Take the hooks off."""
        for one in self._each:
            one.remove()
        self._each.clear()


class _OneOptimizer:
    """The updates of one optimizer."""

    def __init__(self, optimizer: Any, critic: set[int], guest: Guest) -> None:
        from rlwatch.functional.norms import UpdateNorms

        mine = list(parameters(optimizer))
        values = [each for each in mine if id(each) in critic] if critic else None
        self.values: dict[str, float] = {}
        self._norms = UpdateNorms(mine, values, EVERY, COPY)
        self._guest = guest
        self._way: DeferredRow | None = None
        self._times: deque[float] = deque(maxlen=64)
        self._costs: deque[float] = deque(maxlen=3)
        self._begun = 0.0
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def arrived(self) -> bool:
        """Whether there are values of a measurement; asks, never waits."""
        if self._way is not None and self._way.ready():
            self.values = {name: float(value) for name, value in self._way.values().items()}
            self._way = None
        return bool(self.values)

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self._guest.off(_PART):
            return
        try:
            self._begun = 0.0
            now = time.perf_counter()
            self._times.append(now)
            if any(each.grad is not None for each in parameters(optimizer)) and not capturing():
                self._norms.begin()
                self._begun = time.perf_counter() - now
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self._guest.failed(_PART, error)

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if not self._begun or self._guest.off(_PART):
            return
        try:
            now = time.perf_counter()
            self._norms.end()
            if self._norms.values:
                self._way = DeferredRow(self._norms.values)
                self._costs.append(self._begun + time.perf_counter() - now)
                self._pace()
        except Exception as error:  # noqa: BLE001 - as above
            self._guest.failed(_PART, error)

    def _pace(self) -> None:
        """Measure as often as is cheap; the first time costs more than those that follow."""
        passed = len(self._times) - 1
        if len(self._costs) > 1 and passed:
            update = (self._times[-1] - self._times[0]) / passed
            cheap = min(self._costs) / (SHARE * update) if update else AT_LEAST_EVERY
            self._norms.every = min(AT_LEAST_EVERY, max(EVERY, math.ceil(cheap)))
