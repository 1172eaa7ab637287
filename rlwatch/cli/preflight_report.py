"""How the preflights' reports are printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rlwatch.cli.base import Format, wrong

if TYPE_CHECKING:
    from rlwatch.preflight.checks import Report


def told(look: Callable[[], Report], form: Format) -> int:
    """Prints a report and gives its exit code."""
    from rlwatch.preflight.checks import PreflightError
    from rlwatch.telling import as_json, printable

    try:
        report = look()
    except (PreflightError, ModuleNotFoundError) as error:
        wrong(str(error))
    if form is Format.JSON:
        print(as_json(report.as_dict()))
    else:
        print("\n".join(printable(line) for line in report.lines()))
    return report.exit_code
