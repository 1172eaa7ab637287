"""Stable-Baselines3's monitor.csv: a row an episode (`r` its return, `l` its length, `t` seconds since the start)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from rlwatch.offline.rows import PAUSE
from rlwatch.offline.source import Notes, Source

NAME = "Stable-Baselines3 monitor"

WINDOW = 100
"""Episodes that `rollout/ep_rew_mean` averages, as `stats_window_size` of Stable-Baselines3 has it."""

EVERY = 10
"""Episodes a row: a row an episode would hold the same average over and over."""


def knows(source: Source) -> bool:
    """A comment of JSON, then `r,l,t`."""
    return source.head.startswith(b"#{") and b"\nr,l,t" in source.head[:4096].replace(b"\r", b"")


def dicts(source: Source, notes: Notes) -> Iterator[dict[str, Any]]:
    """A dict for every `EVERY` episodes, its step the environment steps so far."""
    returns: deque[float] = deque(maxlen=WINDOW)
    lengths: deque[float] = deque(maxlen=WINDOW)
    steps = episodes = 0
    for number, line in source.lines(notes):
        if not number:
            yield PAUSE
            continue
        if not line.strip() or line[0] == "#" or line.startswith("r,l,t"):
            continue
        try:
            one, length = (float(cell) for cell in line.split(",")[:2])
            steps += int(length)
        except (ValueError, OverflowError):
            if line.endswith("\n"):
                notes.bad(number, line)
            else:
                notes.cut_short = True
            continue
        returns.append(one)
        lengths.append(length)
        episodes += 1
        if episodes % EVERY == 0:
            mean, long = sum(returns) / len(returns), sum(lengths) / len(lengths)
            yield {"step": steps, "rollout/ep_rew_mean": mean, "rollout/ep_len_mean": long}
