"""`rlwatch init`."""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from rlwatch.cli.base import Preset, Work, known_preset, wrong
from rlwatch.telling import RefusedError

WRITTEN, NOT_WRITTEN = 0, 3


class OnCritical(StrEnum):
    """What a critical alert does."""

    CONTINUE = "continue"
    SKIP = "skip"
    ROLLBACK = "rollback"
    HALT = "halt"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(init)


def init(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="The working directory of the training; - prints the text.")
    ] = ".",
    preset: Preset = None,
    on_critical: Annotated[OnCritical | None, typer.Option(help="What a critical alert does; set in the file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an rlwatch.yaml that is there.")] = False,
) -> Work:
    """Write a commented rlwatch.yaml.

    Every setting is in it, with its default, what it takes and what it does, commented out: take the # away from what
    is to be changed. It is made from the settings themselves, those of installed plug-ins too.

    \b
    Examples:
      rlwatch init
      rlwatch init --preset grpo --on-critical rollback
      rlwatch init outputs/grpo-7b --force
      rlwatch init - --preset ppo | less

    \b
    Exit codes:
      0    written
      3    there is one already, or it cannot be written
      64   the command line is wrong
    """
    given = {"preset": preset, "on_critical": on_critical and on_critical.value}
    return partial(_init, folder, given, force)


def _init(folder: str, given: dict[str, Any], force: bool) -> int:
    from rlwatch.config import YAML_FILE, ConfigError
    from rlwatch.settings_file import settings_file

    try:
        text = settings_file({**given, "preset": given["preset"] and known_preset(given["preset"])})
    except ConfigError as error:
        wrong(str(error))
    if folder == "-":
        sys.stdout.write(text)
        return WRITTEN
    file = Path(folder) / YAML_FILE
    if not file.parent.is_dir():
        raise RefusedError(f"{folder}: there is no such folder", NOT_WRITTEN)
    try:
        with file.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise RefusedError(f"{file} is there already: --force overwrites it", NOT_WRITTEN) from error
    except OSError as error:
        raise RefusedError(f"{file} cannot be written: {error.strerror}", NOT_WRITTEN) from error
    print(f"wrote {file}: take the # away from the settings to change; `rlwatch presets` lists what a preset changes")
    return WRITTEN
