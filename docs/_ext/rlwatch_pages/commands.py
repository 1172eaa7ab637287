"""The command line, from typer's declarations and the commands' docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import EnumMeta
from typing import Any, get_args

from typer.models import ArgumentInfo, OptionInfo

from rlwatch.cli.catalogue import Callback, commands, parameters
from rlwatch_pages.tables import code, table

_HEAD = """# The command line

Every command has `--help` with examples and its exit codes; `-h` is short for it. An exit code below 64 is a verdict,
64 a wrong command line (`EX_USAGE`), 130 an interruption. Reports are on stdout, what went wrong on stderr.

Completion for bash, zsh, fish and PowerShell: `rlwatch --install-completion`, once; `rlwatch --show-completion` prints
the script instead.

"""


def pages() -> dict[str, str]:
    """File -> Markdown."""
    parts = (part for name, callback in commands().items() for part in _command(name, callback))
    return {"commands.md": _HEAD + "\n".join(parts)}


def _command(name: str, callback: Callback) -> Iterator[str]:
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


def _parameters(callback: Callback) -> Iterator[tuple[str, ...]]:
    for one in sorted(parameters(callback), key=lambda one: one.is_option):
        told = "" if one.required or one.default in (None, False) else str(getattr(one.default, "value", one.default))
        yield code(", ".join(one.names)), _takes(one.kind, one.info), code(told), one.info.help or ""


def _takes(kind: Any, info: OptionInfo | ArgumentInfo) -> str:
    parts = [part for part in get_args(kind) if part is not type(None)] or [kind]
    several = any(getattr(part, "__origin__", None) is list for part in parts)
    kinds = [(get_args(part) or (part,))[0] for part in parts]
    if isinstance(kinds[0], EnumMeta):
        return ", ".join(code(member.value) for member in kinds[0])
    words = {bool: "", int: "a whole number", float: "a number", str: "text"}
    word = code(info.metavar) if info.metavar and isinstance(info, OptionInfo) else words.get(kinds[0], "a path")
    return word + (", several" if several else "")
