"""A small decoder-only transformer, and sampling from it with a key/value cache."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHARS = "0123456789ab!>._"
"""The vocabulary, one character a token: digits, two letters and a mark that no answer needs, `>` after a prompt,
`.` at the end of an answer, `_` behind it."""

VOCAB, SEP, EOS, PAD = len(CHARS), CHARS.index(">"), CHARS.index("."), CHARS.index("_")


class Block(nn.Module):
    """Pre-norm attention and a two-layer perceptron; `cache` holds the keys and values of earlier positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)

    def forward(self, x: Tensor, cache: list[Tensor] | None = None) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        causal = True
        if cache is not None:
            if cache:
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
                causal = False  # one new position, which sees all that came before
            cache[:] = [k, v]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        out: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return out


class Policy(nn.Module):
    """Token and position embeddings, blocks, and a head."""

    def __init__(self, width: int = 48, layers: int = 2, heads: int = 4, positions: int = 20) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCAB, width), nn.Embedding(positions, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCAB)

    def forward(self, tokens: Tensor, caches: list[list[Tensor]] | None = None, start: int = 0) -> Tensor:
        """Logits of shape (batch, length, vocabulary) for tokens of shape (batch, length)."""
        x = self.tokens(tokens) + self.positions.weight[start : start + tokens.shape[1]]
        for i, block in enumerate(self.blocks):
            x = block(x, None if caches is None else caches[i])
        logits: Tensor = self.head(self.norm(x))
        return logits


class Sample(NamedTuple):
    """Completions: tokens (batch, new), padded after the end token, and the sampler's log-probability of each."""

    tokens: Tensor
    logps: Tensor


@torch.no_grad()
def generate(model: Policy, prompts: Tensor, new: int, temperature: float = 1.0, greedy: bool = False) -> Sample:
    """Sample `new` tokens after `prompts` (batch, length), from the global generator.

    `logps` are those of the distribution that is sampled from.
    """
    caches: list[list[Tensor]] = [[] for _ in model.blocks]
    logits = model(prompts, caches)[:, -1]
    done = torch.zeros(len(prompts), dtype=torch.bool)
    tokens, logps = [], []
    for i in range(new):
        logp = torch.log_softmax(logits / temperature, -1)
        token = logits.argmax(-1) if greedy else torch.multinomial(logp.exp(), 1).squeeze(1)
        token = token.masked_fill(done, PAD)
        tokens.append(token)
        logps.append(logp.gather(1, token[:, None]).squeeze(1).masked_fill(done, 0.0))
        done = done | (token == EOS)
        if i + 1 < new:
            logits = model(token[:, None], caches, prompts.shape[1] + i)[:, 0]
    return Sample(torch.stack(tokens, 1), torch.stack(logps, 1))


def response_mask(tokens: Tensor) -> Tensor:
    """Which of the completion's tokens were chosen by the policy: up to and with the end token, (batch, new)."""
    ended = (tokens == EOS).int().cumsum(1)
    return (ended == 0) | ((ended == 1) & (tokens == EOS))


def texts(tokens: Tensor) -> list[str]:
    """Each row as text, without padding."""
    return ["".join(CHARS[t] for t in row).rstrip("_") for row in tokens.tolist()]
