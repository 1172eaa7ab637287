"""The rewards of a batch split into two heaps."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, warning
from rlwatch.observation import FloatArray, Observation


class RewardBimodality(Detector):
    """Hartigan's dip test on the rewards: newly bimodal means that some samples found an exploit and others did not.

    Only for continuous rewards: 0/1 and few-valued verifier rewards have several heaps by design and give p ~ 0 at
    once. Small batches are pooled until there are `pool` rewards. Newly: the first tests must not have been bimodal
    themselves. Repeated testing: a test counts below `p_value` only, and `in_a_row` such tests must follow each other
    (Hartigan and Hartigan 1985; the p-value comes from diptest's table).
    """

    id: ClassVar[str] = "reward_bimodality"
    link: ClassVar[Link] = Link.REWARD
    needs: ClassVar[tuple[str, ...]] = ("rewards",)
    warmup: ClassVar[int] = 5
    state: ClassVar[tuple[str, ...]] = ("_pool", "_tests", "_split_tests", "_in_a_row", "_discrete", "_gap")

    class Settings(DetectorSettings):
        """One test has to be nearly certain, since one is made every few rows."""

        cooldown: int = Field(200, ge=0, description="rows after an alert in which it is not repeated")
        p_value: float = Field(1e-4, gt=0, lt=1, description="p-value of the dip below which a test counts")
        in_a_row: int = Field(3, ge=1, description="such tests in a row that make an alert")
        pool: int = Field(64, ge=16, description="rewards that a test needs; smaller batches are pooled")
        distinct: int = Field(20, ge=3, description="distinct values below which a reward counts as few-valued")
        opening: int = Field(5, ge=1, description="first tests, which show what is normal in this run")
        every: int = Field(4, ge=1, description="rows from one test to the next, at least")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._pool: list[float] = []
        self._tests = 0
        self._split_tests = 0
        self._in_a_row = 0
        self._discrete = 0
        self._gap = 0

    def check(self, obs: Observation) -> Finding | None:
        """Pool the rewards and test them when there are enough and the last test is `every` rows old."""
        rewards = obs.finite_samples("rewards")
        if rewards is None:
            return None
        limits = self.settings
        self._gap += 1
        if len(self._pool) + rewards.size < limits.pool:
            self._pool.extend(rewards.tolist())
            return None
        if self._gap < limits.every:
            self._pool = []
            return None
        values = np.concatenate([np.asarray(self._pool), rewards]) if self._pool else rewards
        self._pool, self._gap = [], 0
        return self._test(values)

    def blind(self) -> tuple[str, str]:
        """Only few-valued rewards so far: there is no distribution to test."""
        if self._tests or not self._discrete:
            return "", ""
        return "the rewards take few values (0/1 and the like), several heaps are their nature", "none is needed"

    def _test(self, values: FloatArray) -> Finding | None:
        limits = self.settings
        ordered = np.sort(values)
        if _few_valued(ordered, limits.distinct):
            self._discrete += 1
            self._in_a_row = 0
            return None
        dip, p = _dip_test(ordered)
        split = p < limits.p_value
        self._tests += 1
        self._in_a_row = self._in_a_row + 1 if split else 0
        if self._tests <= limits.opening:
            self._split_tests += split
            return None
        if self._split_tests or self._in_a_row < limits.in_a_row:
            return None
        low, high, share = _heaps(ordered)
        return warning(
            f"Bimodal reward distribution detected, Hartigan dip test p-value = {p:.1g}: "
            f"{1 - share:.0%} around {low:.3g}, {share:.0%} around {high:.3g}",
            p_value=p, dip=dip, rewards=int(values.size), tests_in_a_row=self._in_a_row,
            low_heap=low, high_heap=high, share_high=share,
        )


def _few_valued(ordered: FloatArray, distinct: int) -> bool:
    """Whether a reward takes few values, or few values take most of the samples."""
    jumps = np.flatnonzero(np.diff(ordered) > 1e-9 * max(1.0, abs(float(ordered[-1]))))
    if jumps.size + 1 < distinct:
        return True
    counts = np.diff(np.concatenate(([-1], jumps, [ordered.size - 1])))
    return float(np.sort(counts)[-2:].sum()) > 0.3 * ordered.size


def _dip_test(ordered: FloatArray) -> tuple[float, float]:
    """The dip and its p-value."""
    from diptest import diptest  # 0.1 s to import: only a run with continuous rewards pays for it

    dip, p = diptest(ordered, sort_x=False)
    return float(dip), float(p)


def _heaps(ordered: FloatArray) -> tuple[float, float, float]:
    """Means of the two heaps and the share of the upper one: the split that leaves the least spread within."""
    n = ordered.size
    left = np.arange(1, n)
    sums = np.cumsum(ordered)[:-1]
    total = float(ordered.sum())
    between = (sums - left * total / n) ** 2 / (left * (n - left))
    cut = int(np.argmax(between)) + 1
    return float(ordered[:cut].mean()), float(ordered[cut:].mean()), 1.0 - cut / n
