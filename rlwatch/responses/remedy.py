"""Remedies: what is changed after going back, so that the failure does not come again.

Going back alone replays the same failure. For each detector the table below gives the first fixes of its playbook
page that can be done to a live run, in the page's order. At a run's first rollback the first that is applicable is
done; at the second that one again (they add up) and the next one too; and so on, whichever detector speaks: a failure
that comes back is often told by another one. What else is open at that moment gets the first of its own fixes too:
the detector that asks to go back tells how bad it is, and seldom what broke first.

What is known to match the failure comes before the table, and is all that a first rollback does: a setting that had
been changed for the worse since the state that was put back, and is as it was; a bound on rewards that went beyond all
that were paid while the run was healthy. A learning rate cut besides would cost the rest of the run.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlwatch.responses.cures import (
    Context,
    Remedy,
    clip_gradients,
    clip_rewards,
    lower_entropy_bonus,
    lower_learning_rate,
    lower_value_weight,
    normalise_advantages,
    raise_entropy_bonus,
    raise_kl,
    sample_plainly,
    skip_data,
    smaller_updates,
    sync_more_often,
)

REMEDIES: dict[str, tuple[Remedy, ...]] = {
    "entropy_collapse": (lower_learning_rate, raise_kl, raise_entropy_bonus, skip_data),
    # Where there is a bonus for entropy, it comes before the page's second fix: it is what pays for the rise.
    "entropy_explosion": (lower_entropy_bonus, lower_learning_rate, raise_kl, clip_gradients),
    "kl_explosion": (raise_kl, lower_learning_rate, smaller_updates, clip_gradients, skip_data),
    "kl_controller": (lower_learning_rate, raise_kl, smaller_updates),
    "clip_fraction": (lower_learning_rate, smaller_updates),
    "update_imbalance": (lower_value_weight, lower_learning_rate, smaller_updates),
    "gradient_spike": (clip_gradients, lower_learning_rate, skip_data),
    "loss_nonfinite": (clip_gradients, lower_learning_rate, skip_data),
    "advantage_spike": (normalise_advantages, lower_learning_rate, clip_rewards, clip_gradients, skip_data),
    "value_failure": (lower_learning_rate, lower_value_weight, clip_rewards, clip_gradients),
    # Not the learning rate first: a slower policy reaches the same exploit.
    "reward_variance_explosion": (clip_rewards, raise_kl, skip_data, lower_learning_rate),
    "reward_bimodality": (clip_rewards, raise_kl, skip_data, lower_learning_rate),
    "reward_drift": (raise_kl, clip_rewards, skip_data, lower_learning_rate),
    "reward_collapse": (lower_learning_rate, raise_kl, smaller_updates, clip_gradients),
    "proxy_divergence": (raise_kl, clip_rewards, lower_learning_rate),
    "length_exploitation": (raise_kl, clip_rewards, lower_learning_rate),
    "side_metrics": (raise_kl, clip_rewards, lower_learning_rate),
    "rollout_mismatch": (sync_more_often, sample_plainly, lower_learning_rate, smaller_updates),
    "staleness": (sync_more_often, lower_learning_rate, smaller_updates),
    # What going back cannot cure: the cause is outside of the weights.
    "frozen_weights": (),
    "reward_degenerate": (),
    "throughput": (),
}
"""Detector -> its page's fixes that can be done to a live run, first one first. `()`: going back cures nothing."""

AT_ONCE = {"kl_explosion": 2}
"""How many of the first ones count as one, where it is not one: a KL that is critical has left by 4.5 sigma, and a
doubled coefficient alone did not hold such a run (benchmarks/gym, learning rate x100)."""

DEFAULT: tuple[Remedy, ...] = (lower_learning_rate, raise_kl, skip_data)
"""For any other detector: "when in doubt cut the learning rate 5x from a checkpoint" (playbook: index)."""


class Pharmacy:
    """Chooses and applies remedies.

    Args:
        own: what the user gave: a remedy for every detector, or a dict detector -> remedy, or a list of them, or
            None for the table. Where a user's own returns None, the table's are tried.

    Raises:
        ValueError: `own` is none of these.
    """

    def __init__(self, own: Remedy | Mapping[str, Any] | Sequence[Any] | None = None) -> None:
        self._own: dict[str, tuple[Remedy, ...]] = {}
        self._for_all: tuple[Remedy, ...] = ()
        if isinstance(own, Mapping):
            self._own = {name: _as_remedies(given) for name, given in own.items()}
        elif own is not None:
            self._for_all = _as_remedies(own)

    def curable(self, detector: str) -> bool:
        """Whether there is anything to try."""
        return bool(self._mine(detector) or REMEDIES.get(detector, DEFAULT))

    def apply(self, context: Context) -> list[str]:
        """Do what is due at this strength; what was done, in words, [] when nothing was applicable."""
        said: dict[Remedy, str] = {}
        mine = self._mine(context.detector)
        self._take([[remedy] for remedy in mine], context, context.strength, said)
        if said:
            return list(said.values())
        matched = list(context.undone.values())
        if context.rewards is not None and context.rewards.upward and (clipped := clip_rewards(context)):
            said[clip_rewards] = clipped
            matched.append(clipped)
        most = context.strength - bool(matched)
        if most:
            units = [[each for each in unit if each not in said] for unit in _units(context.detector, DEFAULT)]
            self._take([unit for unit in units if unit], context, most, said)
            for other in context.others if said else ():
                self._take(_units(other, ()), context, 1, said)
        return list(dict.fromkeys([*matched, *said.values()]))

    @staticmethod
    def _take(units: Iterable[Sequence[Remedy]], context: Context, most: int, said: dict[Remedy, str]) -> None:
        """Apply the first `most` that can be; those that were applied already count."""
        taken = 0
        for unit in units:
            if taken == most:
                return
            for remedy in unit:
                if remedy not in said and (done := remedy(context)):
                    said[remedy] = done
            taken += any(remedy in said for remedy in unit)

    def _mine(self, detector: str) -> tuple[Remedy, ...]:
        return self._own.get(detector, self._for_all)


def _units(detector: str, default: Sequence[Remedy]) -> list[Sequence[Remedy]]:
    """The table's remedies for a detector; those that are done at once are one unit."""
    table = REMEDIES.get(detector, default)
    together = AT_ONCE.get(detector, 1)
    return [table[:together], *([remedy] for remedy in table[together:])]


def _as_remedies(given: Any) -> tuple[Remedy, ...]:
    remedies = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    for remedy in remedies:
        if not callable(remedy) or inspect.isclass(remedy):
            raise ValueError(f"a remedy is a function that takes the context and says what it did, got {remedy!r}")
    return remedies


