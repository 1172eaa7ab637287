"""The sample arrays of a step, from the batch that verl computes its own metrics of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

TEXTS = 32
"""Completions decoded a step. A detector reads a few of them, an incident shows a handful."""

TOKENS = 2048
"""Of a longer completion the first and the last half of these are decoded."""


def samples_of(batch: Any, uids: Sequence[Any] | None = None, tokenizer: Any = None) -> dict[str, Any]:
    """One number for each of the n samples, and texts for some of them, by canonical name.

    Rewards are the sums of the token-level scores, before any KL penalty. An advantage is the mean over the tokens of
    a response (with GRPO and kin it is the same for all of them). A response of no tokens, an aborted one, has neither.
    The samples that have texts come first: `completions` is shorter than the arrays.

    Args:
        batch: verl's DataProto with padded tensors of shape (n, t), on the host.
        uids: of the prompts, length n; samples of one prompt share one.
        tokenizer: decodes `completions`; None for none.
    """
    import torch

    tensors = batch.batch
    mask = tensors["response_mask"].bool()
    lengths = _lengths(tensors)
    tokens = mask.sum(-1)
    rewards = tensors["token_level_scores"].sum(-1).double()
    advantages = torch.where(mask, tensors["advantages"], 0.0).sum(-1).double() / tokens
    nan = torch.tensor(torch.nan, dtype=torch.float64)
    order, shown = _order(len(rewards))
    found: dict[str, Any] = {
        "rewards": torch.where(lengths > 0, rewards, nan)[order].numpy(),
        "advantages": torch.where(tokens > 0, advantages, nan)[order].numpy(),
        "response_lengths": lengths.double()[order].numpy(),
    }
    if uids is not None and len(uids) == len(rewards):
        found["group_ids"] = [str(uids[i]) for i in order]
    if parts := _components(batch, len(rewards), order):
        found["reward_components"] = parts
    if tokenizer is not None:
        ids = [_ends(tensors["responses"][i, : int(lengths[i])]) for i in order[:shown]]
        found["completions"] = tokenizer.batch_decode(ids, skip_special_tokens=True)
    return found


def _lengths(tensors: Any) -> Any:
    """Tokens of each response, those of tools included; V1 gives them, V0 the attention mask."""
    if "response_length" in tensors:
        return tensors["response_length"]
    return tensors["attention_mask"][:, -tensors["responses"].shape[-1] :].sum(-1)


def _order(count: int) -> tuple[list[int], int]:
    """All samples, those first that are spread evenly over the batch; and how many these are."""
    shown = min(count, TEXTS)
    first = [i * count // shown for i in range(shown)]
    chosen = set(first)
    return first + [i for i in range(count) if i not in chosen], shown


def _ends(ids: Any) -> list[int]:
    if len(ids) <= TOKENS:
        return list(ids.tolist())
    half = TOKENS // 2
    return [*ids[:half].tolist(), *ids[-half:].tolist()]


def _components(batch: Any, count: int, order: list[int]) -> dict[str, Any]:
    """What the reward function gave besides the score, where it is in the batch (V0) and is numbers."""
    import numpy as np

    parts = {}
    for name in batch.meta_info.get("reward_extra_keys") or ():
        values = list(batch.non_tensor_batch.get(name, ()))
        try:
            numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        except (TypeError, ValueError):  # texts, lists of several lengths
            continue
        if numbers.shape == (count,):
            parts[str(name)] = numbers[order]
    return parts
