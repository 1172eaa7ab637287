"""The samples of a step's rollouts: rewards by function, advantages, lengths, groups and texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlwatch.adapters.seams import Seams
from rlwatch.observation import FloatArray

_TABLE = {"advantages": "advantages", "completions": "completion", "prompts": "prompt"}
"""Canonical name -> column of `trainer._logs`."""


class Rollouts:
    """Collects what each generation of a training step produced (GRPO, RLOO and their kin).

    Nothing is computed twice and nothing large is copied: rewards are an (N, functions) tensor that TRL itself
    has just brought to the host, advantages and texts come from the lists that TRL keeps for its own table
    (`trainer._logs`), and completions are never decoded again. Under several ranks rewards, advantages and texts
    are the gathered batch; response lengths are known for this rank's slice only and NaN elsewhere.
    """

    def __init__(self, trainer: Any, seams: Seams) -> None:
        self._trainer = trainer
        self._batches: list[dict[str, Any]] = []
        self._scored: dict[str, Any] | None = None
        seams.add(trainer, "_calculate_rewards", self._on_rewards)
        seams.add(trainer, "_generate_and_score_completions", self._on_rollout)

    def drop(self) -> None:
        """A step begins: forget what was not taken."""
        self._batches.clear()
        self._scored = None

    def take(self) -> dict[str, Any]:
        """The sample arrays of this step by canonical name; empty when it reused an earlier rollout."""
        batches, self._batches = self._batches, []
        return joined(batches)

    def put(self, batch: dict[str, Any]) -> None:
        """One generation's samples."""
        self._batches.append(batch)

    def _on_rewards(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        if self._training():
            given = dict(zip(("inputs", "prompts", "completions", "completion_ids_list"), args, strict=False))
            self._scored = {**given, **kwargs, "rewards": result}

    def _on_rollout(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        scored, self._scored = self._scored, None
        if scored is None or not self._training():
            return
        per_function = np.asarray(scored["rewards"].tolist(), dtype=np.float64)
        total = len(per_function)
        batch: dict[str, Any] = {
            "rewards": weighted(per_function, self._weights(per_function.shape[1])),
            "reward_components": self._by_name(per_function),
            "group_ids": np.arange(total, dtype=np.float64) // max(int(self._trainer.num_generations), 1),
            "response_lengths": self._lengths(scored["completion_ids_list"], total),
        }
        if len(scored["completions"]) == total:
            batch["completions"], batch["prompts"] = list(scored["completions"]), list(scored["prompts"])
        batch.update(self._from_table(total))
        self.put(batch)

    def _training(self) -> bool:
        """TRL tells training from evaluation in the same way."""
        return bool(self._trainer.model.training)

    def _weights(self, functions: int) -> Sequence[float]:
        weights = getattr(self._trainer, "reward_weights", None)
        return [1.0] * functions if weights is None else weights.tolist()

    def _by_name(self, per_function: FloatArray) -> dict[str, FloatArray]:
        columns: dict[str, FloatArray] = {}
        for index, name in enumerate(getattr(self._trainer, "reward_func_names", ())):
            # Two functions of one name (two lambdas) share a key in TRL's log; here each keeps its column.
            columns[f"{name}_{index}" if name in columns else name] = per_function[:, index]
        return columns

    def _lengths(self, completion_ids: Sequence[Sequence[int]], total: int) -> FloatArray:
        lengths = np.full(total, math.nan)
        start = int(self._trainer.accelerator.process_index) * len(completion_ids)
        lengths[start : start + len(completion_ids)] = [len(ids) for ids in completion_ids]
        return lengths

    def _from_table(self, total: int) -> dict[str, Any]:
        """The newest `total` entries of TRL's own table, which holds the gathered batch as host values.

        Read before an evaluation can overwrite them: the generation of a training batch has just ended.
        """
        table: dict[str, Any] = {}
        logs = getattr(self._trainer, "_logs", {})
        for name, column in _TABLE.items():
            newest = list(logs.get(column, ()))[-total:]
            if len(newest) == total:
                table[name] = newest
        return table


def weighted(per_function: FloatArray, weights: Sequence[float]) -> FloatArray:
    """Each sample's reward, shape (n,): the weighted sum over functions (n, f) of what they scored, as TRL has it.

    A function that returned None (NaN) for a sample is left out; a sample that none scored is NaN.
    """
    missing = np.isnan(per_function)
    total: FloatArray = np.where(missing, 0.0, per_function) @ np.asarray(weights, dtype=np.float64)
    total[missing.all(axis=1)] = math.nan
    return total


def joined(batches: list[dict[str, Any]]) -> dict[str, Any]:
    """Several generations of one step as one batch; a kind of sample that one of them lacks is left out."""
    if len(batches) < 2:
        return batches[0] if batches else {}
    offset = 0.0
    for batch in batches:
        batch["group_ids"] = batch["group_ids"] + offset
        offset = float(batch["group_ids"].max(initial=offset - 1)) + 1
    shared = [name for name in batches[0] if all(name in batch for batch in batches)]
    return {name: _concatenated([batch[name] for batch in batches]) for name in shared}


def _concatenated(parts: list[Any]) -> Any:
    if isinstance(parts[0], dict):
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    if isinstance(parts[0], list):
        return [item for part in parts for item in part]
    return np.concatenate(parts)
