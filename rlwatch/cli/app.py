"""The commands of `rlwatch`.

typer parses; a command returns the work to be done, which runs outside of typer and imports what it needs. The larger
commands are a file each in this folder, `<name>_command.py`, with a function `register(app)`.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from itertools import pairwise
from pkgutil import iter_modules
from typing import Annotated, Any

import typer

from rlwatch import __version__, cli
from rlwatch.cli import USAGE_ERROR, commands
from rlwatch.cli.base import Format, Work
from rlwatch.telling import RefusedError, as_json, printable

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(argv: list[str]) -> int:
    """Runs a command line and returns its exit code; Ctrl-C and a closed pipe pass through as exceptions."""
    try:
        work = _parsed(argv)
        return work() if callable(work) else int(work or 0)
    except RefusedError as refused:
        print(printable(f"rlwatch: {refused}"), file=sys.stderr)
        if _asks_json(argv):
            print(as_json({"error": str(refused)}))
        return refused.code


def _parsed(argv: list[str]) -> Any:
    """The command's work, or an exit code."""
    try:
        return app(argv, standalone_mode=False, prog_name="rlwatch")
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer raises for a bad command line has it
            raise
        where = getattr(getattr(error, "ctx", None), "command_path", "rlwatch")
        raise RefusedError(f"{error.format_message().rstrip('.')} (see `{where} --help`)", USAGE_ERROR) from error


def _asks_json(argv: list[str]) -> bool:
    """Whether the report is wanted as JSON; told by the words, as the command line may be wrong."""
    return "--format=json" in argv or ("--format", "json") in pairwise(argv)


@app.callback(invoke_without_command=True)
def rlwatch(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> Work | None:
    """Watches reinforcement-learning training: says early what breaks, and what to do about it.

    \b
    Examples:
      rlwatch scan runs/*.jsonl.gz       replay recorded logs: which run broke, where, how
      rlwatch scan output/checkpoint-500 the same for a Hugging Face Trainer
      rlwatch monitor train.log --on-critical 'stop 4711'
                                         watch a run from its log, and stop it
      rlwatch watch                      the run that goes on, live
      rlwatch playbook kl_explosion      what an alert means and how to fix it
      rlwatch init                       an rlwatch.yaml with every setting in it

    Exit codes are each command's own (its --help); 64 is a wrong command line everywhere.
    """
    if version:
        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(USAGE_ERROR)
    return None


def _pages(incomplete: str) -> list[str]:
    from rlwatch.playbook import names

    return [name for name in names() if name.startswith(incomplete)]


@app.command()
def playbook(
    name: Annotated[
        str | None, typer.Argument(help="A detector or page; without it all are listed.", autocompletion=_pages)
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The Markdown as it is, on a terminal too.")] = False,
) -> Work:
    """Print what an alert means and how to fix it.

    A page says what is happening, the fixes in order, the common mistake, and when to stop.

    \b
    Examples:
      rlwatch playbook
      rlwatch playbook kl_explosion
      rlwatch playbook playbook/kl_explosion.md    the link of an alert

    \b
    Exit codes:
      0    printed
      64   there is no such page
    """
    return partial(commands.playbook, name, raw)


@app.command()
def checkpoints(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The folder that holds the checkpoints.")],
    form: Annotated[Format, typer.Option("--format", help="A table, or a JSON object.")] = Format.TEXT,
) -> Work:
    """List a run's checkpoints: healthy, suspect, poisoned.

    Healthy is one that no alert was traced to although the detectors' lag has passed; suspect one with a warning,
    or too young to tell; poisoned one that was saved between the onset of a critical and its end. Resume from the
    newest healthy one, which is named last.

    \b
    Examples:
      rlwatch checkpoints outputs/grpo-7b
      rlwatch checkpoints outputs/grpo-7b --format json | jq -r .resume_from

    \b
    Exit codes:
      0    there is a healthy one
      1    there is none
      3    the folder cannot be read, or holds no checkpoint
      64   the command line is wrong
    """
    return partial(commands.checkpoints, folder, form.value)


@app.command()
def detectors(
    form: Annotated[Format, typer.Option("--format", help="A line each, or a JSON object.")] = Format.TEXT,
) -> Work:
    """List the detectors and the signals they need.

    A line gives the detector, the link of the training loop that it watches, and the signals that it needs
    one of. Those of installed packages are among them.

    \b
    Examples:
      rlwatch detectors
      rlwatch detectors --format json | jq -r '.kl_explosion.needs[]'

    \b
    Exit codes:
      0    listed
      64   the command line is wrong
    """
    return partial(commands.detectors, form.value)


@app.command()
def presets(
    form: Annotated[Format, typer.Option("--format", help="A text, or a JSON object.")] = Format.TEXT,
) -> Work:
    """List the presets, and what each changes and why.

    A line gives a setting, its default and the preset's value, and the reason. `--preset NAME` of `scan`,
    Watch("NAME") and `preset: NAME` in rlwatch.yaml take one.

    \b
    Examples:
      rlwatch presets
      rlwatch presets --format json | jq .rlvr

    \b
    Exit codes:
      0    listed
      64   the command line is wrong
    """
    return partial(commands.presets, form.value)


for found in iter_modules(cli.__path__):
    if found.name.endswith("_command"):
        import_module(f"rlwatch.cli.{found.name}").register(app)
