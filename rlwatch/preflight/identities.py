"""What must hold before the first update of an LLM's policy: ratio 1, KL 0, sampler and trainer agree.

A policy that has not moved is its own old policy and its own reference. Where that is not so in numbers, something
computes otherwise than it should: dropout, an adapter that does not start at zero, another checkpoint, padding,
temperature, a chat template, an inference engine in another precision.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rlwatch.preflight.checks import Report
from rlwatch.preflight.identities_batch import Batch, fits, log_probabilities, random_prompts, sample
from rlwatch.preflight.loading import words

if TYPE_CHECKING:
    import torch

KL = 1e-8
"""Largest mean KL (k3) at step zero, to the old policy and to the reference; slime's CI asks for the same."""

GAP = 0.1
"""Largest mean |log p trainer - log p sampler|, nats; slime's CI."""

NORMAL, PROBLEM = 0.005, 0.01
"""Mean |p trainer - p sampler|: below the one normal, above the other a problem; verl's FAQ."""

_ROUNDING = {"float32": 1e-3, "float64": 1e-6}
_COARSE = 0.1


def check_identities(
    policy: Any,
    batch: Batch | None = None,
    *,
    reference: Any = None,
    prompts: Sequence[Sequence[int]] | None = None,
    temperature: float = 1.0,
    max_new_tokens: int = 32,
    seed: int = 0,
) -> Report:
    """Computes log-probabilities of a batch as the old policy, the trained one, the reference and the sampler do.

    The policy's weights are not changed; it is left in the mode it came in.

    Args:
        policy: a causal language model of Hugging Face; with a PEFT adapter the reference is it without the adapter.
        batch: sampled elsewhere, as by the inference engine that will be used; without it the policy samples.
        reference: the frozen model.
        prompts: token ids to sample from; else random ones.
        temperature: of the sampling, by which the trainer has to divide the logits too.

    Raises:
        PreflightError: the batch does not fit the model.
        ModuleNotFoundError: PyTorch is missing.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("identities need PyTorch: pip install 'rlwatch[torch]'", name=error.name) from None
    report = Report("step-zero identities")
    was_training = policy.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            by_policy = batch is None
            if batch is None:
                batch = sample(policy, random_prompts(policy, prompts), temperature, max_new_tokens)
            fits(policy, batch)
            with torch.no_grad():
                old = log_probabilities(policy.eval(), batch, temperature)
            new = log_probabilities(policy.train(), batch, temperature).detach()
            if _finite(report, old, batch):
                _ratio(report, old, new, batch)
                _reference(report, policy, reference, old, batch, temperature)
                _sampler(report, old, batch, by_policy)
                _padding(report, policy, old, batch, temperature)
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            report.add("run", "fail", f"the model raises: {words(error)}", "call it by hand with one batch")
        finally:
            policy.train(was_training)
    return report


def _kept(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    return values[batch.mask[:, batch.prompt :].bool()].double()


def _finite(report: Report, logps: torch.Tensor, batch: Batch) -> bool:
    kept = _kept(logps, batch)
    if kept.numel() == 0:
        report.add("run", "not evaluated", "the batch has no completion token", "sample completions that are not empty")
        return False
    bad = int((~kept.isfinite()).sum())
    if bad:
        says = f"{bad} of {kept.numel()} log-probabilities are not finite"
        report.add("run", "fail", says, "look for NaN in the weights, and for -inf where tokens are masked")
        return False
    report.add("run", "pass", f"{kept.numel()} completion tokens of {len(batch.ids)} samples, all finite")
    return True


def _k3(one: torch.Tensor, other: torch.Tensor) -> float:
    """KL of `one` to `other` by Schulman's k3, mean over tokens."""
    apart = other - one
    return float((apart.expm1() - apart).mean())


def _ratio(report: Report, old: torch.Tensor, new: torch.Tensor, batch: Batch) -> None:
    """Old policy in evaluation mode against the policy in training mode, as PPO's ratio has them."""
    one, other = _kept(old, batch), _kept(new, batch)
    away = float(((other - one).exp() - 1).abs().max())
    kl = abs(_k3(one, other))
    says = f"|ratio - 1| is {away:.2g} at most, approx_kl {kl:.2g}"
    evidence = {"largest": away, "approx_kl": kl}
    if kl <= KL:
        report.add("ratio is 1", "pass", says, evidence=evidence)
    else:
        fix = "set every dropout to 0, or compute the old log-probabilities in training mode too; look for noise layers"
        report.add("ratio is 1", "fail", f"{says}: evaluation and training mode differ", fix, evidence=evidence)


def _reference(
    report: Report, policy: Any, reference: Any, old: torch.Tensor, batch: Batch, temperature: float
) -> None:
    import torch

    without = contextlib.nullcontext()
    if reference is None and hasattr(policy, "disable_adapter"):
        reference, without = policy, policy.disable_adapter()
    if reference is None:
        says = "no reference was given"
        report.add("KL is 0", "not evaluated", says, "--reference MODEL, where the KL is penalised", needed=False)
        return
    was_training = reference.training
    with torch.no_grad(), without:
        theirs = log_probabilities(reference.eval(), batch, temperature)
    reference.train(was_training)
    kl = _k3(_kept(old, batch), _kept(theirs, batch))
    evidence = {"kl": kl, "largest": float((_kept(old, batch) - _kept(theirs, batch)).abs().max())}
    says = f"KL to the reference is {kl:.2g} nats a token"
    if abs(kl) <= KL:
        report.add("KL is 0", "pass", says, evidence=evidence)
    else:
        fix = "load both from one checkpoint in one precision; an adapter has to start at zero (LoRA's B)"
        report.add("KL is 0", "fail", f"{says}: it is not the model that training starts from", fix, evidence=evidence)


def _sampler(report: Report, old: torch.Tensor, batch: Batch, by_policy: bool) -> None:
    import torch

    name = "sampler agrees"
    if batch.sampled is None or not bool((there := torch.isfinite(_kept(batch.sampled, batch))).any()):
        says = "the samples carry no log-probabilities of the sampler"
        report.add(name, "not evaluated", says, "let the engine return the log-probabilities of sampled tokens")
        return
    one, other = _kept(old, batch)[there], _kept(batch.sampled, batch)[there]
    gap, apart = float((one - other).abs().mean()), float((one.exp() - other.exp()).abs().mean())
    who = "generate()" if by_policy else "the sampler"
    says = (
        f"{who} and the forward pass differ by {gap:.2g} nats and {apart:.2g} in probability, over {one.numel()} tokens"
    )
    evidence = {
        "logprob_diff": gap,
        "prob_diff": apart,
        "tokens": one.numel(),
        "largest": float((one - other).abs().max()),
    }
    fix = "same weights, same precision, same temperature on both sides? positions under padding? chat template?"
    if gap > GAP or apart > PROBLEM:
        report.add(name, "fail", says, fix, evidence=evidence)
    elif apart > NORMAL:
        report.add(name, "warning", says, fix, evidence=evidence)
    else:
        report.add(name, "pass", says, evidence=evidence)


def _padding(report: Report, policy: Any, old: torch.Tensor, batch: Batch, temperature: float) -> None:
    """The most padded sample alone and without padding: its log-probabilities may not change."""
    import torch

    blank = (batch.mask[:, : batch.prompt] == 0).sum(-1)
    row = int(blank.argmax())
    pads = int(blank[row])
    if not pads:
        says = "no prompt of the batch is padded"
        report.add("padding", "not evaluated", says, "give prompts of different lengths", needed=False)
        return
    alone = Batch(batch.ids[row : row + 1, pads:], batch.mask[row : row + 1, pads:], batch.prompt - pads)
    with torch.no_grad():
        single = log_probabilities(policy.eval(), alone, temperature)
    gap = float((_kept(single, alone) - old[row][batch.mask[row, batch.prompt :].bool()].double()).abs().max())
    kind = str(next(policy.parameters()).dtype).removeprefix("torch.")
    says = f"with and without {pads} pads on the left log-probabilities differ by {gap:.2g} nats at most"
    if gap <= _ROUNDING.get(kind, _COARSE):
        report.add("padding", "pass", says, evidence={"largest": gap})
    else:
        fix = "give the model the attention mask, and position ids that do not count pads"
        report.add("padding", "fail", says, fix, evidence={"largest": gap})
