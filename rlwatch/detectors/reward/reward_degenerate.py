"""There is nothing to learn from in the rewards: dead, finished, or of a useless shape."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from rlwatch import histogram
from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming import TINY, correlation
from rlwatch.streaming.looks import Looks
from rlwatch.streaming.recent import Recent
from rlwatch.streaming.standing import Standing
from rlwatch.streaming.stuck import Stuck
from rlwatch.streaming.ties import TIED, Ties

_NEAR = 0.1
"""Share of the reward's size within which a row counts as unmoved; of its range, where nothing moved within the row."""

_BEGINNING = 10
"""Rows within which a stretch that lasts ever since counts as being there from the start."""

_SUSPECT = frozenset({"constant", "almost constant", "clipped", "long tail", "few values"})


class RewardDegenerate(Detector):
    """Rewards that do not differ, or hardly ever: all equal, all groups tied, almost all 0, clipped, one long tail.

    Tells dead from finished: equal rewards at the best level that the run has reached by learning mean that the task is
    solved; anywhere else that there is no signal. A high share of groups without spread is normal late in training
    (measured: over 20 rows .91 in the median healthy run, .975 at most; dead runs sit at 1.0), and single rows without
    any are, too (36 % of the rows of the median run), so whole stretches are counted and rare differing samples do not
    end them. Rewards that never differed since the start are critical only where the advantages or the gradient are
    gone as well: an environment may pay the same for every step. With sample arrays the histogram says more, and
    rewards that point against their advantages are a confusion of signs.
    """

    id: ClassVar[str] = "reward_degenerate"
    link: ClassVar[Link] = Link.REWARD
    core: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = (
        "rewards",
        "reward_std",
        "frac_reward_zero_std",
        "group_reward_std",
        "reward_mean",
    )
    warmup: ClassVar[int] = 20
    shares: ClassVar[tuple[str, ...]] = ("_standing",)
    state: ClassVar[tuple[str, ...]] = (
        "_standing",
        "_stuck",
        "_ties",
        "_looks",
        "_against",
        "_widest",
    )

    class Settings(DetectorSettings):
        """Rows are counted; looks at the samples come every 8 rows."""

        cooldown: int = Field(200, ge=0, description="rows after an alert in which it is not repeated")
        dead_rows: int = Field(20, ge=2, description="rows without a difference that warn, twice as many if only means")
        critical_rows: int = Field(50, ge=2, description="rows without a difference that are critical")
        tied_rows: int = Field(40, ge=2, description="rows in which every group is tied that warn")
        finished_rows: int = Field(200, ge=2, description="rows of equal rewards at their best that warn")
        looks: int = Field(4, ge=1, description="looks in a row at a new, useless shape that warn; at an old one twice")
        opposed: float = Field(-0.5, gt=-1, lt=0, description="correlation of rewards and advantages: signs confused")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._standing, self._stuck = Standing(), Stuck()
        self._ties = Ties()
        self._looks = Looks()
        self._against = Recent(5)
        self._widest = 0.0

    def check(self, obs: Observation) -> Finding | None:
        """Count the rows that do not differ; look at the samples now and then."""
        mean = obs.signals.get("reward_mean")
        finding = None
        if mean is not None:
            finding = self._scalars(obs, mean)
        if "rewards" in obs.samples:
            finding = finding or self._samples(obs)
        return finding

    def _scalars(self, obs: Observation, mean: float) -> Finding | None:
        standing, stuck, signals = self._standing, self._stuck, obs.signals
        if standing.followed is not obs:
            standing.follow(obs)
        spread = signals.get("reward_std")
        size = mean if mean >= 0.0 else -mean
        if spread is not None and spread > 1e-9 * size and self._differs(obs):
            stuck.moves(mean)
            if spread > self._widest:
                self._widest = spread
            return None
        if spread is None:
            high, low = signals.get("reward_max"), signals.get("reward_min")
            spread = (high - low) / 2 if high is not None and low is not None else None
        tied = self._ties.push(signals, obs.samples)
        height = standing.height
        tolerance = _NEAR * (height if height > size else size)
        if spread is None:
            still = mean == stuck.level or tied is True
        else:
            still = spread <= 1e-9 * size or (tied is True and spread <= tolerance)
            widest = self._widest = spread if spread > self._widest else self._widest
            if still:  # two such rows must agree, on the run's own scale: 5.25 and 5.5 are not the same reward
                reach = standing.range
                tolerance = _NEAR * (reach if reach > widest else widest)
        stuck.push(mean, tolerance, still, spread or 0.0)
        limits = self.settings
        if stuck.rows < limits.dead_rows and self._ties.rows < limits.tied_rows:
            return None
        if stuck.lasts(limits.dead_rows):
            return self._alike(obs, mean, spread is None and tied is None)
        return self._groups(obs, mean) if self._ties.rows >= limits.tied_rows else None

    def _differs(self, obs: Observation) -> bool:
        """Whether the groups differ within themselves for certain and nothing was still or tied lately: most rows."""
        if self._stuck.rows or self._ties.rows or "group_ids" in obs.samples:
            return False
        share = obs.signals.get("frac_reward_zero_std")
        return share < TIED if share is not None else "group_reward_std" not in obs.signals

    def _alike(self, obs: Observation, mean: float, blind: bool) -> Finding | None:
        """Rewards that do not differ: dead, finished, or all right from the start. `blind`: only means are logged."""
        limits, stuck, standing = self.settings, self._stuck, self._standing
        rows, level = stuck.rows, stuck.level
        if "episode_length_mean" in obs.signals:
            rows //= 5  # equal returns of whole episodes are common before an environment's first success
        elif blind:
            rows //= 2
        evidence = self._evidence(obs, mean)
        of = f"for {stuck.rows} steps"
        height = standing.height
        from_start = standing.rows - stuck.rows <= _BEGINNING or standing.range <= _NEAR * height
        if level < standing.peak - 0.3 * height:
            text = f"Rewards are dead: all equal at {level:.3g} {of} ({standing.peak:.3g} at their best)"
        elif from_start and level == 1.0 and standing.range == 0.0:
            text = f"Rewards are all 1 since the start, {of}: the task is too easy, or the check passes everything"
            return warning(f"{text}; nothing to learn from", **evidence) if rows >= limits.dead_rows else None
        elif from_start and level != 1.0:
            text = f"Rewards are dead: all equal at {level:.3g} since the start, {of}"
        elif level >= standing.peak - _NEAR * height:
            text = f"Rewards are finished: all equal at their best, {level:.3g}, {of}; nothing is left to learn"
            return warning(text, **evidence) if not blind and rows >= limits.finished_rows else None
        else:
            text = f"Rewards are dead: all equal at {level:.3g} {of}"
        text += "; nothing to learn from"
        sure = not blind and (not from_start or self._dead_further_on(obs))
        if sure and rows >= limits.critical_rows:
            return critical(text, **evidence)
        return warning(text, **evidence) if rows >= limits.dead_rows else None

    def _dead_further_on(self, obs: Observation) -> bool:
        """What is made from the rewards is gone as well: all groups tie, or the advantages or the gradient are 0."""
        made = ("advantage_std", "grad_norm")
        return self._ties.rows > 0 or any(0.0 <= obs.signals.get(name, 1.0) <= TINY for name in made)

    def _groups(self, obs: Observation, mean: float) -> Finding:
        """No group differs within itself, although the groups differ from each other."""
        return warning(
            f"All groups are tied for {self._ties.rows} steps, at a mean reward of {mean:.3g}: each prompt is always "
            "right or always wrong, and a group-relative advantage is 0",
            **self._evidence(obs, mean),
        )

    def _samples(self, obs: Observation) -> Finding | None:
        """At each look: confused signs, or a useless shape that the run did not begin with."""
        look = self._looks.push(obs.finite_samples("rewards"))
        if look is None:
            return None
        with np.errstate(all="ignore"):
            opposed = self._signs(obs)
        if opposed is not None:
            return opposed
        limits, standing, seen = self.settings, self._standing, look.seen
        alike = seen.share >= histogram.ALMOST
        if seen.shape not in _SUSPECT or (look.normal and not alike):
            return None
        if look.alike < limits.looks * (2 if look.normal else 1):
            return None
        if seen.shape != "long tail" and seen.value >= standing.peak - _NEAR * standing.height:
            return None  # the commonest reward is the best: that is success
        what = "there is little to learn from" if alike else "it was not so before"
        return warning(
            f"Rewards are degenerate: {seen.text}; {what}",
            shape=seen.shape,
            value=seen.value,
            share=seen.share,
            samples=look.samples,
            looks=look.alike,
            reward=standing.mean,
            reward_peak=standing.peak,
        )

    def _signs(self, obs: Observation) -> Finding | None:
        """Whether the samples with the higher rewards get the lower advantages."""
        advantages = obs.samples.get("advantages")
        if advantages is None:
            return None
        r = correlation.of_samples(obs.samples["rewards"], advantages, obs.samples.get("group_ids"))
        if r is None:
            return None
        self._against.push(r)
        level = self._against.median_of(3)
        if level is None or level > self.settings.opposed:
            return None
        text = f"Signs are confused: rewards and advantages point in opposite directions (r = {level:.2f} over samples)"
        return warning(text, correlation=level, last=r)

    def _evidence(self, obs: Observation, mean: float) -> dict[str, Any]:
        standing, stuck = self._standing, self._stuck
        evidence: dict[str, Any] = {
            "reward": mean,
            "level": stuck.level,
            "rows": stuck.rows,
            "rows_exactly_equal": stuck.still,
            "rows_all_groups_tied": self._ties.rows,
            "peak": standing.peak,
        }
        for name in ("reward_std", "frac_reward_zero_std", "group_reward_std", "grad_norm"):
            if name in obs.signals:
                evidence[name] = obs.signals[name]
        ties = self._ties
        if ties.right or ties.wrong:
            evidence["groups_all_best"], evidence["groups_all_worse"] = ties.right, ties.wrong
        rewards = obs.finite_samples("rewards")
        if rewards is not None:
            with np.errstate(all="ignore"):
                evidence["histogram"] = histogram.diagnose(rewards).text
        return evidence
