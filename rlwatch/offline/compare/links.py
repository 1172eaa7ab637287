"""Which link of the training loop a signal belongs to, and in which order partings are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from rlwatch.diagnosis.timing import LINKS, NAMES, UNKNOWN
from rlwatch.signals import SIGNALS

SETTING = "setting"
"""What the user sets, on a schedule or not: where it differs it is told first, as a cause."""

COUNTERS = frozenset({"num_tokens", "env_steps"})
"""Running totals, which part for good after the first different row: what they total is compared instead."""

_SETTINGS = frozenset(
    {"learning_rate", "critic_learning_rate", "clip_range", "kl_target", "entropy_coef", "kl_coef"}
)  # fmt: skip
_FIRST = (
    ("reward_mean", "reward"),
    ("response_length_mean", "exploration"),
    ("advantage_mean", "advantage"),
    ("loss", "policy"),
    ("value_loss", "critic"),
    ("entropy", "exploration"),
    ("rollout_logprob_diff", "freshness"),
    ("grad_norm", "numerics"),
    ("step_time", "system"),
)
"""The vocabulary stands in groups, each of one link: the first signal of each group."""


def _by_name() -> dict[str, str]:
    begins, link, found = dict(_FIRST), UNKNOWN, {}
    for name in SIGNALS:
        link = begins.get(name, link)
        found[name] = SETTING if name in _SETTINGS else link
    return found


LINK_OF = _by_name()

ORDER = (SETTING, *LINKS)


def name_of(link: str) -> str:
    """A link in words."""
    return "settings" if link == SETTING else NAMES[link]


class Parted(Protocol):
    """What has a place in the order: a parting between the steps `earliest` and `step`."""

    @property
    def link(self) -> str: ...
    @property
    def earliest(self) -> float: ...
    @property
    def step(self) -> int | None: ...


P = TypeVar("P", bound=Parted)


def ordered(partings: Sequence[P]) -> list[P]:
    """The partings, what parted first in front; where two cannot be told apart in time, by the links' causal order."""
    left, told = list(partings), []
    while left:
        horizon = min(_step(one) for one in left)
        open_to = [one for one in left if one.earliest <= horizon]
        first = min(open_to, key=lambda one: (ORDER.index(one.link), _step(one)))
        told.append(first)
        left.remove(first)
    return told


def _step(one: Parted) -> float:
    assert one.step is not None
    return one.step
