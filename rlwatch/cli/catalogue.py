"""What commands there are and what they take, as they were declared: for the reference in the docs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from rlwatch.cli.app import app

Callback = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """An option or argument of a command.

    Attributes:
        names: `--format`, `-f`; of an argument its metavar.
        kind: the type that it was annotated with.
        default: its value where it is not given; `inspect.Parameter.empty` where it must be.
        info: typer's declaration of it.
    """

    names: tuple[str, ...]
    kind: Any
    default: Any
    info: OptionInfo | ArgumentInfo

    @property
    def is_option(self) -> bool:
        """Whether it is given by name."""
        return isinstance(self.info, OptionInfo)

    @property
    def required(self) -> bool:
        """Whether the command does not work without it."""
        return self.default is inspect.Parameter.empty


def commands(group: typer.Typer = app, lead: str = "") -> dict[str, Callback]:
    """Name -> callback, those of groups as `group command`; sorted."""
    found: dict[str, Callback] = {}
    for info in group.registered_commands:
        if info.callback is not None:
            found[lead + (info.name or info.callback.__name__.replace("_", "-"))] = info.callback
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            found |= commands(inner.typer_instance, f"{lead}{inner.name} ")
    return dict(sorted(found.items()))


def parameters(callback: Callback) -> Iterator[Parameter]:
    """What a command takes, in the order of its declaration."""
    hints = get_type_hints(callback, include_extras=True)
    for name, one in inspect.signature(callback).parameters.items():
        declared = getattr(hints[name], "__metadata__", ())
        info = next((each for each in declared if isinstance(each, OptionInfo | ArgumentInfo)), None)
        if info is not None:
            yield Parameter(_names(name, info), hints[name].__origin__, one.default, info)


def _names(name: str, info: OptionInfo | ArgumentInfo) -> tuple[str, ...]:
    if isinstance(info, ArgumentInfo):
        return (str(info.metavar or name.upper()),)
    # The first name that is given inside of Annotated is where a default stands elsewhere.
    given = tuple(str(one) for one in (info.default, *(info.param_decls or ())) if str(one).startswith("-"))
    return given or (f"--{name.replace('_', '-')}",)
