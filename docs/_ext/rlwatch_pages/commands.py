"""The command line, from typer's declarations and the commands' docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from enum import EnumMeta
from typing import Any, get_args, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from rlwatch.cli.app import app
from rlwatch_pages.tables import code, table

_HEAD = """# The command line

Every command has `--help` with examples and its exit codes; `-h` is short for it. An exit code below 64 is a verdict,
64 a wrong command line (`EX_USAGE`), 130 an interruption. Reports are on stdout, what went wrong on stderr.

Completion for bash, zsh, fish and PowerShell: `rlwatch --install-completion`, once; `rlwatch --show-completion` prints
the script instead.

"""


def pages() -> dict[str, str]:
    """File -> Markdown."""
    commands = {
        info.name or info.callback.__name__.replace("_", "-"): info.callback
        for info in app.registered_commands
        if info.callback is not None
    }
    return {
        "commands.md": _HEAD + "\n".join(part for name in sorted(commands) for part in _command(name, commands[name]))
    }


def _command(name: str, callback: Callable[..., Any]) -> Iterator[str]:
    yield f"## rlwatch {name}\n"
    for block in inspect.cleandoc(callback.__doc__ or "").split("\n\n"):
        lines = block.removeprefix("\b\n").splitlines()
        title, body = lines[0], "\n".join(line.removeprefix("  ") for line in lines[1:])
        if title.startswith("Exit codes") and body:
            yield f"{title}\n\n{table(('code', 'means'), _codes(body))}"
        elif title.endswith(":") and body and block.startswith("\b"):
            yield f"{title}\n\n```\n{body}\n```\n"
        else:
            yield block.removeprefix("\b\n").replace("<", "&lt;") + "\n"
    rows = list(_parameters(callback))
    if rows:
        yield table(("option or argument", "takes", "default", "what it does"), rows)


def _codes(text: str) -> Iterator[tuple[str, str]]:
    for line in re.split(r"\n(?=\d)", text):
        number, _, meaning = line.partition(" ")
        yield number, meaning


def _parameters(callback: Callable[..., Any]) -> Iterator[tuple[str, ...]]:
    signature = inspect.signature(callback).parameters
    hints = get_type_hints(callback, include_extras=True)
    declared = [(name, hints[name], _info(hints[name])) for name in signature]
    for name, hint, info in sorted(declared, key=lambda one: isinstance(one[2], OptionInfo)):
        if info is not None:
            default = signature[name].default
            without = default is inspect.Parameter.empty or default in (None, False)
            told = "" if without else str(getattr(default, "value", default))
            yield code(_name(name, info)), _takes(hint.__origin__, info), code(told), info.help or ""


def _info(hint: Any) -> OptionInfo | ArgumentInfo | None:
    return next((one for one in getattr(hint, "__metadata__", ()) if isinstance(one, OptionInfo | ArgumentInfo)), None)


def _name(name: str, info: OptionInfo | ArgumentInfo) -> str:
    if isinstance(info, ArgumentInfo):
        return str(info.metavar or name.upper())
    # The first name that is given inside of Annotated is where a default stands elsewhere.
    given = [str(one) for one in (info.default, *(info.param_decls or ())) if str(one).startswith("-")]
    return ", ".join(given) or f"--{name.replace('_', '-')}"


def _takes(kind: Any, info: OptionInfo | ArgumentInfo) -> str:
    parts = [part for part in get_args(kind) if part is not type(None)] or [kind]
    several = any(getattr(part, "__origin__", None) is list for part in parts)
    kinds = [(get_args(part) or (part,))[0] for part in parts]
    if isinstance(kinds[0], EnumMeta):
        return ", ".join(code(member.value) for member in kinds[0])
    words = {bool: "", int: "a whole number", float: "a number", str: "text"}
    word = code(info.metavar) if info.metavar and isinstance(info, OptionInfo) else words.get(kinds[0], "a path")
    return word + (", several" if several else "")
