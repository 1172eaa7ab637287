"""The rollouts of a run as arrays: one entry a sample, NaN where a value is missing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rlwatch.observation import FloatArray

IntArray = npt.NDArray[np.int64]


@dataclass
class Rollouts:
    """The samples of a run; every array has shape (n,).

    Attributes:
        path, format: where they were read, and what as.
        columns: role -> the column it came from, for a person to check.
        values: role (reward, gold, length, step, kl, advantage) -> numbers; absent where there is no such column.
        components: reward component -> numbers.
        features: other columns of numbers.
        measures: texts.Measures by name, of the completions; {} without completions.
        prompt, answer: ids of equal prompts, and of equal completions to equal prompts; None without the texts.
        group: ids of the groups of samples of one prompt at one step; None where that cannot be told.
        snippets: how each completion ends.
        keys: an id for joining with another file; [] where there is none.
        length_unit: tokens or characters.
        reward_is_sum: whether the file holds no reward but its components alone.
        remarks: what was met in reading, a sentence each.
    """

    path: str
    format: str
    size: int
    columns: dict[str, str] = field(default_factory=dict)
    values: dict[str, FloatArray] = field(default_factory=dict)
    components: dict[str, FloatArray] = field(default_factory=dict)
    features: dict[str, FloatArray] = field(default_factory=dict)
    measures: dict[str, FloatArray] = field(default_factory=dict)
    prompt: IntArray | None = None
    answer: IntArray | None = None
    group: IntArray | None = None
    prompt_hashes: list[int] = field(default_factory=list)
    answer_hashes: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    snippets: list[str] = field(default_factory=list)
    length_unit: str = "tokens"
    reward_is_sum: bool = False
    remarks: list[str] = field(default_factory=list)

    def get(self, role: str) -> FloatArray | None:
        """The numbers of a role; None where there is not one that is finite."""
        found = self.values.get(role)
        return found if found is not None and bool(np.isfinite(found).any()) else None
