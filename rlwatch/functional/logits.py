"""Entropy and KL divergence of whole distributions, from logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from rlwatch.functional.reduce import check_shape, masked_mean, wide

Reduction = Literal["mean", "none"]

# Float32 elements of one temporary: 2**24 are 64 MiB, or 110 tokens of a vocabulary of 151,936.
_CHUNK_ELEMENTS = 2**24


@torch.no_grad()
def entropy_from_logits(
    logits: Tensor,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    chunk: int | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Entropy of the softmax distribution, per token: `H(p) = -sum_v p_v log p_v`, in nats.

    From 0 (one certain token) to log V (uniform). A logit of -inf (vocabulary mask, top-k) is a token of
    probability 0 and adds nothing, where `logsumexp - sum(p * x)` would give NaN. This is the entropy that
    TRL, verl and OpenRLHF log, if `temperature` is the one of sampling. Formula: Shannon (1948); `-p log p`
    by `torch.special.entr`.

    Args:
        logits: (..., V), any floating dtype.
        mask: (...), the tokens to count (usually the completion's). None counts all.
        temperature: the logits are divided by it; above 0.
        chunk: tokens computed at a time; bounds the extra memory to a few times chunk * V * 4 bytes. By
            default a temporary takes 64 MiB. The logits are never copied whole, even if they are a slice.
        reduction: "mean" over the selected tokens, or "none" for each token.

    Returns:
        A 0-d tensor, or one of shape (...) with "none" (masked tokens included). NaN for a token whose logits
        hold NaN or +inf, or are all -inf.

    Raises:
        ValueError: a wrong mask shape, no vocabulary, temperature or chunk not above 0, or an unknown
            reduction.
    """
    _check(logits, mask, temperature, chunk, reduction)

    def entropy(x: Tensor) -> Tensor:
        terms: Tensor = torch.special.entr(torch.softmax(wide(x) / temperature, dim=-1))
        return terms.sum(dim=-1)

    return _reduce(_per_token(entropy, (logits,), chunk), mask, reduction)


@torch.no_grad()
def kl_from_logits(
    logits_p: Tensor,
    logits_q: Tensor,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    chunk: int | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Exact divergence of two softmax distributions: `KL(p || q) = sum_v p_v (log p_v - log q_v)`.

    Per token, in nats. The first argument is the one that the expectation is under: the policy as p and the
    reference model as q give the KL penalty of RLHF (Ziegler et al. 2019, arXiv:1909.08593). Where p is 0 the
    term is 0, whatever q is; where only q is 0 the divergence is +inf. Formula: Kullback & Leibler (1951).

    Args:
        logits_p, logits_q: (..., V), the same shape, on one device.
        mask, temperature, chunk, reduction: as for `entropy_from_logits`; both logits are divided by
            `temperature`.

    Returns:
        A 0-d tensor, or one of shape (...) with "none"; never below 0.

    Raises:
        ValueError: as `entropy_from_logits`, or two shapes that differ.
    """
    _check(logits_p, mask, temperature, chunk, reduction)
    check_shape("logits_q", logits_q, logits_p.shape)

    def divergence(p: Tensor, q: Tensor) -> Tensor:
        log_p = torch.log_softmax(wide(p) / temperature, dim=-1)
        log_q = torch.log_softmax(wide(q) / temperature, dim=-1)
        prob = log_p.exp()
        # Where p is 0 the product may be 0 * inf or hold -inf - (-inf); a NaN in p is kept.
        return (prob * (log_p - log_q)).where(prob != 0, 0.0).sum(dim=-1).clamp_min(0)

    return _reduce(_per_token(divergence, (logits_p, logits_q), chunk), mask, reduction)


def _check(logits: Tensor, mask: Tensor | None, temperature: float, chunk: int | None, reduction: Reduction) -> None:
    if logits.dim() == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits need a last dimension, the vocabulary; got shape {tuple(logits.shape)}")
    check_shape("mask", mask, logits.shape[:-1])
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction must be 'mean' or 'none', got {reduction!r}")


def _reduce(per_token: Tensor, mask: Tensor | None, reduction: Reduction) -> Tensor:
    return masked_mean(per_token, mask) if reduction == "mean" else per_token


def _per_token(function: Callable[..., Tensor], tensors: Sequence[Tensor], chunk: int | None) -> Tensor:
    """`function` of (rows, V) pieces of the tensors, put together to shape (...)."""
    rows = chunk or max(1, _CHUNK_ELEMENTS // tensors[0].shape[-1])
    return torch.cat([function(*piece) for piece in _pieces(tensors, rows)]).reshape(tensors[0].shape[:-1])


def _pieces(tensors: Sequence[Tensor], rows: int) -> Iterator[tuple[Tensor, ...]]:
    try:
        flat = [tensor.view(-1, tensor.shape[-1]) for tensor in tensors]
    except RuntimeError:  # a slice such as logits[:, :-1]: `reshape` would copy all of it at once
        for parts in zip(*(tensor.unbind(0) for tensor in tensors), strict=True):
            yield from _pieces(parts, rows)
        return
    yield from zip(*(torch.split(tensor, rows) for tensor in flat), strict=True)
