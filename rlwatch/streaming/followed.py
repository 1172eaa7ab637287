"""A statistic of the reward that several detectors share."""

from __future__ import annotations

from abc import ABC, abstractmethod

from rlwatch.observation import Observation


class Followed(ABC):
    """Takes in a row's reward once, whoever asks first.

    Attributes:
        followed: the row taken in last.
    """

    __slots__ = ("followed",)

    def __init__(self) -> None:
        self.followed: Observation | None = None

    def follow(self, obs: Observation) -> None:
        """Take in a row's reward, if it has one."""
        if obs is not self.followed:
            self.followed = obs
            x = obs.signals.get("reward_mean")
            if x is not None:
                self.push(x)

    @abstractmethod
    def push(self, x: float) -> None:
        """Take in the reward of a row."""
