"""What the commands share: how a report is printed, what a wrong command line costs, the users' names of signals."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import StrEnum

from rlwatch.cli import USAGE_ERROR

Work = Callable[[], int]
"""What a command does, once its options are read; gives the exit code."""


class Format(StrEnum):
    """How a report is printed."""

    TEXT = "text"
    JSON = "json"


def wrong(sentence: str) -> int:
    """Says what is wrong with the command line or a setting, and gives the exit code for it."""
    print(f"rlwatch: {sentence}", file=sys.stderr)
    return USAGE_ERROR


def signal_map(maps: Sequence[str]) -> dict[str, str]:
    """Signal (or `step`) -> the log's key, of `--map SIGNAL=KEY`; raises `ConfigError`."""
    from rlwatch.config import ConfigError

    named: dict[str, str] = {}
    for pair in maps:
        signal, equals, key = pair.partition("=")
        if not (signal and equals and key):
            raise ConfigError(f"--map {pair!r} is not SIGNAL=KEY, as in --map kl=my/kl")
        if signal != "step":
            known_signal(signal, f"--map {pair!r}")
        if signal in named or key in named.values():
            raise ConfigError(f"--map {pair!r}: the signal or the key is mapped twice")
        named[signal] = key
    return named


def known_signal(name: str, where: str) -> str:
    """The name, if there is such a signal; raises `ConfigError`, which says `where` and suggests another."""
    from rlwatch.config import ConfigError
    from rlwatch.signals import SIGNALS, suggest

    if name not in SIGNALS:
        near = suggest(name)
        hint = f"did you mean {' or '.join(near)}?" if near else "`rlwatch detectors` lists those in use"
        raise ConfigError(f"{where}: there is no signal {name!r}; {hint}")
    return name
