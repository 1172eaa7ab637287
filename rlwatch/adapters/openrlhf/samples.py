"""The samples of a step, from the Experience batch that OpenRLHF has just made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rlwatch.observation import FloatArray

PARTS = ("sequences", "action_mask", "response_length", "advantages", "values", "returns", "action_log_probs")
LATE, LATEST = 0.05, 5.0
"""Seconds that a step waits for its texts, when everything else of it is ready, and for its arrays."""


class Samples:
    """Reads a batch on a thread of its own, while the trainer does nothing but wait for its workers to train on it.

    The batch lies on the host already (OpenRLHF collects it there), and is only read.

    Args:
        tokenizer: of the trainer.
        per_prompt: samples to a prompt.
        failed: gets what went wrong on the thread.
    """

    def __init__(self, tokenizer: Any, per_prompt: int, failed: Callable[[str, BaseException], object]) -> None:
        self._tokenizer = tokenizer
        self._per_prompt = per_prompt
        self._failed = failed
        self._thread: threading.Thread | None = None
        self._found: dict[str, Any] = {}
        self._ready = threading.Event()

    def begin(self, experiences: Sequence[Any]) -> None:
        """A batch was made. What OpenRLHF may take out of it later is kept here first."""
        batches = [_kept(experience) for experience in experiences]
        busy = self._thread is not None and self._thread.is_alive()  # with the texts of the last: none of this one
        self._found, self._ready = {}, threading.Event()
        given = (batches, self._found, self._ready, not busy)
        self._thread = threading.Thread(target=self._read, args=given, name="rlwatch-samples", daemon=True)
        self._thread.start()

    def take(self) -> dict[str, Any]:
        """The step's arrays, and its texts if they are ready; empty where there was no batch."""
        if self._thread is None:
            return {}
        if self._ready.wait(LATEST):
            self._thread.join(LATE)
        found, self._found = dict(self._found), {}
        return found

    def wait(self) -> None:
        """Until the last batch is read, at most a second."""
        if self._thread is not None:
            self._thread.join(1.0)
            self._thread = None

    def _read(
        self, batches: list[dict[str, Any]], found: dict[str, Any], ready: threading.Event, texts_too: bool
    ) -> None:
        try:
            found.update(arrays(batches, self._per_prompt))
            found.update(measures(batches))
        except Exception as error:  # noqa: BLE001 - on a thread of our own: it costs this step's samples
            self._failed("the samples of a step", error)
        finally:
            ready.set()
        try:
            found.update(texts(batches, self._tokenizer) if texts_too else {})
        except Exception as error:  # noqa: BLE001
            self._failed("the texts of a step", error)


def _kept(experience: Any) -> dict[str, Any]:
    """References to what is read; `index` is taken away by OpenRLHF's balancing."""
    kept = {name: getattr(experience, name, None) for name in (*PARTS, "rollout_log_probs")}
    kept["rewards"] = experience.info.get("reward")
    kept["index"] = list(experience.index) if experience.index else None
    kept["prompts"] = list(experience.prompts or [])
    return kept


def arrays(batches: Sequence[dict[str, Any]], per_prompt: int) -> dict[str, FloatArray]:
    """One number a sample, by canonical name; what a batch lacks is left out.

    Advantages, values and returns are (B, A) there, one for each token: here their mean over the sample's tokens.
    """
    found: dict[str, list[FloatArray]] = {}
    for batch in batches:
        for name, key in (("rewards", "rewards"), ("response_lengths", "response_length")):
            if batch[key] is not None:
                found.setdefault(name, []).append(_host(batch[key]).reshape(-1))
        for name in ("advantages", "values", "returns"):
            if batch[name] is not None and (name == "advantages" or batch["values"] is not None):
                found.setdefault(name, []).append(_mean_of_tokens(batch[name], batch["action_mask"]))
        if batch["index"] is not None and per_prompt > 1:
            found.setdefault("group_ids", []).append(np.asarray(batch["index"], dtype=np.float64) // per_prompt)
    return {name: np.concatenate(parts) for name, parts in found.items() if len(parts) == len(batches)}


def measures(batches: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What OpenRLHF does not log: how well the critic fits, and how far the engine is from the trainer."""
    found: dict[str, float] = {}
    if all(batch["values"] is not None and batch["returns"] is not None for batch in batches):
        returns, values = _tokens(batches, "returns"), _tokens(batches, "values")
        spread = float(returns.var()) if returns.size else 0.0
        if spread > 0.0:
            found["explained_variance"] = 1.0 - float((returns - values).var()) / spread
    if all(batch["rollout_log_probs"] is not None for batch in batches):
        found.update(_mismatch(_tokens(batches, "action_log_probs"), _tokens(batches, "rollout_log_probs")))
    return found


def _mismatch(trainer: FloatArray, engine: FloatArray) -> dict[str, float]:
    """The sampled tokens' log-probabilities, trainer against inference engine, shape (tokens,).

    The effective sample size is Kish's, (sum w)^2 / (N sum w^2), from logarithms so that no weight overflows.
    """
    if not trainer.size:
        return {}
    apart, chances = np.abs(trainer - engine), np.abs(np.exp(trainer) - np.exp(engine))
    logs = trainer - engine
    weights = np.exp(logs - logs.max())
    found = {
        "rollout_logprob_diff": float(apart.mean()),
        "rollout_logprob_diff_max": float(apart.max()),
        "rollout_prob_diff": float(chances.mean()),
        "rollout_prob_diff_max": float(chances.max()),
        "ess": float(weights.sum() ** 2 / (weights.size * (weights**2).sum())),
    }
    with np.errstate(over="ignore"):
        found["is_weight_mean"] = float(np.exp(logs).mean())
    return found


def texts(batches: Sequence[dict[str, Any]], tokenizer: Any) -> dict[str, list[str]]:
    """The completions, what an environment put in between left out, and their prompts."""
    answers: list[Any] = []
    prompts: list[str] = []
    for batch in batches:
        # The mask is that of the token after: sequences (B, T), action_mask (B, T - 1).
        tokens, mask = batch["sequences"][:, 1:], batch["action_mask"].bool()
        answers += [row[chosen].tolist() for row, chosen in zip(tokens, mask, strict=True)]
        prompts += batch["prompts"]
    completions = list(tokenizer.batch_decode(answers, skip_special_tokens=True))
    return {"completions": completions, **({"prompts": prompts} if len(prompts) == len(completions) else {})}


def _host(tensor: Any) -> FloatArray:
    array: FloatArray = tensor.detach().float().cpu().numpy().astype(np.float64)
    return array


def _mean_of_tokens(values: Any, mask: Any) -> FloatArray:
    rows, chosen = _host(values), _host(mask) > 0
    counts = np.maximum(chosen.sum(axis=1), 1)
    mean: FloatArray = np.where(chosen, rows, 0.0).sum(axis=1) / counts
    return mean


def _tokens(batches: Sequence[dict[str, Any]], name: str) -> FloatArray:
    return np.concatenate([_host(batch[name])[_host(batch["action_mask"]) > 0] for batch in batches])
