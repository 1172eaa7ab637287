"""What the commands share: how a report is printed, what a wrong command line costs, the users' names of signals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, NoReturn

import typer

from rlwatch.cli import USAGE_ERROR
from rlwatch.telling import RefusedError

Work = Callable[[], int]
"""What a command does, once its options are read; gives the exit code."""


class Format(StrEnum):
    """How a report is printed."""

    TEXT = "text"
    JSON = "json"


def _presets() -> list[str]:
    from rlwatch.presets import CATALOGUE

    return list(CATALOGUE)


def _signals(incomplete: str) -> list[str]:
    from rlwatch.signals import SIGNALS

    return [name for name in SIGNALS if name.startswith(incomplete)]


def _maps(incomplete: str) -> list[str]:
    return [] if "=" in incomplete else [f"{name}=" for name in ("step", *_signals("")) if name.startswith(incomplete)]


def _starting(incomplete: str) -> list[str]:
    return [name for name in _presets() if name.startswith(incomplete)]


Preset = Annotated[
    str | None,
    typer.Option(
        help="Defaults for an algorithm: grpo, rlvr, ppo, dpo, classic, or one with -strict.", autocompletion=_starting
    ),
]
Rules = Annotated[
    list[str] | None,
    typer.Option("--rule", metavar="RULE", help="A guard of your own, as 'kl > 0.35 for 5'; may be repeated."),
]
Maps = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="SIGNAL=KEY",
        help="The log's key of a signal or of `step`; may be repeated.",
        autocompletion=_maps,
    ),
]
Needs = Annotated[
    list[str] | None,
    typer.Option(
        "--need", metavar="SIGNAL", help="Without it a run is not evaluated; may be repeated.", autocompletion=_signals
    ),
]


def wrong(sentence: str) -> NoReturn:
    """Ends the command, as something is wrong with its command line or a setting."""
    raise RefusedError(sentence, USAGE_ERROR)


def known_preset(name: str) -> str:
    """The name, if there is such a preset; raises `ConfigError`, which suggests another."""
    import difflib

    from rlwatch.config import ConfigError

    if name not in _presets():
        near = difflib.get_close_matches(name, _presets(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "`rlwatch presets` lists them"
        raise ConfigError(f"--preset {name}: there is no such preset; {hint}")
    return name


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
