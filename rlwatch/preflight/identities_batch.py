"""Sampled sequences, and the log-probabilities of their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlwatch.preflight.checks import PreflightError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Batch:
    """Sampled sequences: prompts padded on the left, completions on the right.

    Attributes:
        ids, mask: tokens and what is no padding, shape (n, prompt + completion).
        prompt: length of the prompt part.
        sampled: log-probability that the sampler gave each completion token, shape (n, completion), NaN where unknown.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    prompt: int
    sampled: torch.Tensor | None = None


def random_prompts(policy: Any, given: Sequence[Sequence[int]] | None) -> list[list[int]]:
    """The prompts given, else random ones."""
    import torch

    if given is not None:
        return [list(prompt) for prompt in given]
    vocabulary = int(policy.config.get_text_config().vocab_size)
    lengths = (3, 7, 5, 9)  # of different lengths, so that padding takes part
    low = min(10, vocabulary - 1)
    return [torch.randint(low, vocabulary, (length,)).tolist() for length in lengths]


def sample(policy: Any, prompts: list[list[int]], temperature: float, tokens: int) -> Batch:
    """The policy's own samples, with the log-probabilities of the generation loop (its cache, its padding)."""
    import torch

    pad = policy.generation_config.pad_token_id
    pad = pad if pad is not None else (policy.generation_config.eos_token_id or 0)
    pad = pad[0] if isinstance(pad, list) else pad
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts], device=policy.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=policy.device)
    policy.eval()
    with torch.no_grad():
        made = policy.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=tokens, do_sample=True, temperature=temperature,
            top_k=0, top_p=1.0, pad_token_id=pad, return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
    completion = made.sequences[:, longest:]
    logits = torch.stack(made.logits, dim=1).float() / temperature
    logps = logits.log_softmax(-1).gather(-1, completion.unsqueeze(-1)).squeeze(-1)
    ends = policy.generation_config.eos_token_id
    ends = torch.tensor(ends if isinstance(ends, list) else [-1 if ends is None else ends], device=policy.device)
    ended = torch.isin(completion, ends).int().cumsum(-1) - torch.isin(completion, ends).int()
    whole = torch.cat((mask, (ended == 0).int()), dim=1)
    return Batch(made.sequences, whole, longest, logps)


def fits(policy: Any, batch: Batch) -> None:
    """Raises `PreflightError` where a batch is not one for the model."""
    if batch.ids.dim() != 2 or batch.ids.shape != batch.mask.shape:
        raise PreflightError(f"ids {tuple(batch.ids.shape)} and mask {tuple(batch.mask.shape)} have to be (n, tokens)")
    if not 0 < batch.prompt < batch.ids.shape[1]:
        raise PreflightError(f"a prompt of {batch.prompt} of {batch.ids.shape[1]} tokens leaves no completion")
    vocabulary = int(policy.config.get_text_config().vocab_size)
    if int(batch.ids.max()) >= vocabulary:
        raise PreflightError(
            f"token {int(batch.ids.max())} is not in the vocabulary of {vocabulary}: another tokenizer"
        )


def log_probabilities(model: Any, batch: Batch, temperature: float) -> torch.Tensor:
    """Log-probability of each completion token, teacher-forced, shape (n, completion); in float32."""
    positions = (batch.mask.cumsum(-1) - 1).clamp(min=0)
    made = model(input_ids=batch.ids, attention_mask=batch.mask, position_ids=positions, use_cache=False)
    logits = made.logits[:, batch.prompt - 1 : -1].float() / temperature
    tokens = batch.ids[:, batch.prompt :].unsqueeze(-1)
    found: torch.Tensor = logits.log_softmax(-1).gather(-1, tokens).squeeze(-1)
    return found
