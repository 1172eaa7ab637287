"""Going back to the last healthy state inside one `model.learn()`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rlwatch.adapters.sb3.algorithms import Algorithm
from rlwatch.adapters.sb3.gradients import Gradients
from rlwatch.adapters.sb3.knobs import knobs_of
from rlwatch.adapters.torch_rollback import rollback_for
from rlwatch.alert import Verdict
from rlwatch.responses.rolled import Rolled

if TYPE_CHECKING:
    from rlwatch.watch import Watch

PLAIN_BUFFERS = ("ReplayBuffer", "DictReplayBuffer", "NStepReplayBuffer")
"""Replay buffers whose position is all that there is to put back; HER's also counts episodes."""

STATISTICS = ("obs_rms", "ret_rms", "returns")


class GoingBack:
    """The rollbacks of one `learn()`; it exists where `on_critical="rollback"`.

    Put back are policy, target networks, optimizers, SAC's temperature, the statistics of a VecNormalize, the position
    in the replay buffer, the generators and the detectors' baselines. The environments go on as they are, and so do
    the counts of steps: nobody can put those back in general.
    """

    def __init__(self, model: Any, known: Algorithm, watch: Watch, gradients: Gradients, remedies: Any = None) -> None:
        self._model = model
        self._watch = watch
        self._rollback = rollback_for(
            watch,
            model.policy,
            list(known.optimizers.values()),
            state=self._further(model, watch),
            knobs=knobs_of(model, gradients),
            remedies=remedies,
        )
        self._rollback.clip = None  # SB3's own clipping, or that of `gradients`, does it
        self._first = self._rollback.levers.values()

    @staticmethod
    def _further(model: Any, watch: Watch) -> dict[str, Any]:
        state: dict[str, Any] = {}
        buffer = getattr(model, "replay_buffer", None)
        if buffer is not None and type(buffer).__name__ in PLAIN_BUFFERS:
            place = Place(model)
            state["replay buffer"] = (place.get, place.set)
        elif buffer is not None:
            watch.complain(f"a rollback leaves a {type(buffer).__name__} as it is: its position cannot be put back")
        if getattr(model, "_vec_normalize_env", None) is not None:
            statistics = Statistics(model)
            state["VecNormalize"] = (statistics.get, statistics.set)
        return state

    def observe(self, step: int) -> None:
        """Before the updates of a row, all being well: take a snapshot if one is due."""
        row = self._watch.rows
        if self._rollback.snapshots.due(row):
            self._rollback.observe(row, step)

    def tick(self) -> None:
        """A row has passed."""
        self._rollback.snapshots.tick()

    def respond(self, verdict: Verdict) -> tuple[bool, str]:
        """Whether the model is back at an older state, and one sentence; else it must halt."""
        outcome = self._rollback.respond(verdict)
        if outcome.done:
            _look_again(self._model)
        return outcome.done, outcome.note

    def end(self) -> None:
        """The memory of the snapshots is free."""
        self._rollback.snapshots.kept.clear()

    # Across model.save and model.load

    def export(self) -> dict[str, Any]:
        """The rollbacks so far, and the knobs that they turned."""
        values, first = self._rollback.levers.values(), self._first
        turned = {name: [first[name], now] for name, now in values.items() if now != first[name]}
        return {"done": [asdict(rolled) for rolled in self._rollback.history.done], "knobs": turned}

    def resumed(self, saved: Mapping[str, Any]) -> None:
        """Turn the knobs again that a loaded model has forgotten, unless the script now sets another value."""
        levers = self._rollback.levers
        for name, (was, value) in saved.get("knobs", {}).items():
            if name in levers and levers[name] == was:
                levers[name] = value
                self._first[name] = was
        self._rollback.history.done[:] = [Rolled(**rolled) for rolled in saved.get("done", [])]


class Place:
    """Where a replay buffer writes next: going back drops what came since, which a sick policy played.

    Once the ring has come round since then there is nothing older left in it, and it stays as it is.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def get(self) -> tuple[int, bool]:
        """Position, and whether the buffer is full."""
        buffer = self._model.replay_buffer
        return int(buffer.pos), bool(buffer.full)

    def set(self, place: tuple[int, bool]) -> None:
        """Write on from there."""
        buffer = self._model.replay_buffer
        position, full = place
        if buffer.full and not full:
            return
        buffer.pos, buffer.full = position, full
        if buffer.optimize_memory_usage:
            # Its next observation is about to be overwritten: the way SB3 itself ends a trajectory.
            buffer.dones[position - 1] = True


class Statistics:
    """The running means and variances of a VecNormalize, and the discounted returns that they are made of."""

    def __init__(self, model: Any) -> None:
        self._env = model._vec_normalize_env

    def get(self) -> dict[str, Any]:
        """A copy."""
        return {name: copy.deepcopy(getattr(self._env, name)) for name in STATISTICS if hasattr(self._env, name)}

    def set(self, saved: Mapping[str, Any]) -> None:
        """Put a copy back."""
        for name, value in saved.items():
            setattr(self._env, name, copy.deepcopy(value))


def _look_again(model: Any) -> None:
    """The observation that the next action answers was normalised by the statistics that are gone."""
    normalised = getattr(model, "_vec_normalize_env", None)
    if normalised is not None and model.env is normalised and model._last_obs is not None:
        model._last_obs = normalised.normalize_obs(normalised.get_original_obs())
