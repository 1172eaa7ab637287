"""`rlwatch doctor-self`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from rlwatch.cli.base import Format, Work


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("doctor-self")(doctor_self)


def doctor_self(
    quick: Annotated[bool, typer.Option("--quick", help="Compare versions only; import no framework.")] = False,
    form: Annotated[Format, typer.Option("--format", help="A report to read, or a JSON object.")] = Format.TEXT,
) -> Work:
    """Say what of rlwatch is installed and works here.

    The settings, whether runs can be recorded, the playbook, the extras, the detectors of other packages, and each
    adapter: which version of its framework is there, whether it is the tested one, and whether the methods that the
    adapter holds on to exist in it. Each framework is imported in a process of its own, which takes some seconds.

    \b
    Examples:
      rlwatch doctor-self
      rlwatch doctor-self --quick
      rlwatch doctor-self --format json | jq '.findings[] | select(.state == "broken")'

    \b
    Exit codes:
      0    all that is installed works
      1    something that is installed does not fit, or was not tested in this version
      3    rlwatch cannot work here: wrong settings, no place for runs, no playbook
      64   the command line is wrong
    """
    return partial(_doctor_self, quick, form)


def _doctor_self(quick: bool, form: Format) -> int:
    from rlwatch.selfcheck.report import run

    return run(quick=quick, form=form.value)
