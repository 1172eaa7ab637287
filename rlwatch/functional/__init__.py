"""Statistics of policy-gradient training that torch has no function for, in the way of `torch.nn.functional`.

All of them run on the device of their input and return a tensor there, without gradients and without making
the host wait (no `.item()`, no shape that depends on values), so that the result can go to `Watch.log` as it
is. Half precision is computed in float32, float64 stays float64. A NaN among the selected elements gives NaN,
and so does a mask that selects nothing. Entropies and divergences are in nats.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("rlwatch.functional needs PyTorch: pip install 'rlwatch[torch]'") from error

from rlwatch.functional.critic import explained_variance
from rlwatch.functional.logits import entropy_from_logits, kl_from_logits
from rlwatch.functional.logprobs import clip_fraction, effective_sample_size, kl_from_logprobs
from rlwatch.functional.norms import update_norms
from rlwatch.functional.reduce import masked_mean

__all__ = [
    "clip_fraction",
    "effective_sample_size",
    "entropy_from_logits",
    "explained_variance",
    "kl_from_logits",
    "kl_from_logprobs",
    "masked_mean",
    "update_norms",
]
