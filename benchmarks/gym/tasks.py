"""Verifiable tasks on digits: prompts, their only right answer, and how an answer is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.gym.model import EOS, PAD, SEP

Ints = npt.NDArray[np.int64]

MAX_NEW = 10
"""Tokens a completion may have. Answers take 2 to 6 and the end token, so that there is room to be too long."""

HELD_OUT = 256


@dataclass(frozen=True)
class Task:
    """`answer` maps digits (batch, size) to the answer's digits (batch, answer_size)."""

    name: str
    size: int
    answer: Callable[[Ints], Ints]

    def digits(self, count: int, rng: np.random.Generator) -> Ints:
        return rng.integers(0, 10, (count, self.size))

    def training(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """`count` prompts (count, size + 1) and targets (count, MAX_NEW); none is in the held-out set."""
        held = self._held_out_codes()
        digits = self.digits(2 * count + 8, rng)
        digits = digits[~np.isin(_codes(digits), held)][:count]
        return self.encode(digits)

    def held_out(self) -> tuple[Tensor, Tensor]:
        """The fixed prompts and targets on which true success is measured."""
        return self.encode(self._held_out_digits())

    def encode(self, digits: Ints) -> tuple[Tensor, Tensor]:
        prompts = np.concatenate([digits, np.full((len(digits), 1), SEP)], 1)
        answers = self.answer(digits)
        targets = np.full((len(digits), MAX_NEW), PAD)
        targets[:, : answers.shape[1]] = answers
        targets[:, answers.shape[1]] = EOS
        return torch.from_numpy(prompts), torch.from_numpy(targets)

    def _held_out_digits(self) -> Ints:
        return self.digits(HELD_OUT, np.random.default_rng(12345 + self.size))

    def _held_out_codes(self) -> Ints:
        return np.unique(_codes(self._held_out_digits()))


def exact(tokens: Tensor, targets: Tensor) -> Tensor:
    """1 where the answer is right and ended at once, else 0; true success is the mean of this."""
    return (tokens == targets).all(1).float()


def partial(tokens: Tensor, targets: Tensor) -> Tensor:
    """Share of the answer's tokens (end token included) that are right; nothing is paid for what follows."""
    answer = targets != PAD
    return ((tokens == targets) & answer).sum(1) / answer.sum(1)


def lenient(tokens: Tensor, targets: Tensor) -> Tensor:
    """1 where the completion begins with the right answer, whatever follows."""
    answer = (targets != PAD) & (targets != EOS)
    return ((tokens == targets) | ~answer).all(1).float()


def _codes(digits: Ints) -> Ints:
    return digits @ (10 ** np.arange(digits.shape[1]))


def _sort(d: Ints) -> Ints:
    return np.sort(d, 1)


def _reverse(d: Ints) -> Ints:
    return d[:, ::-1].copy()


def _shift(d: Ints) -> Ints:
    """The first digit is added to each of the others, modulo 10."""
    return (d[:, 1:] + d[:, :1]) % 10


def _running(d: Ints) -> Ints:
    """Running sums modulo 10."""
    return np.cumsum(d, 1) % 10


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("sort4", 4, _sort),
        Task("sort5", 5, _sort),
        Task("reverse5", 5, _reverse),
        Task("reverse6", 6, _reverse),
        Task("shift4", 4, _shift),
        Task("shift5", 5, _shift),
        Task("running4", 4, _running),
    )
}
