"""How the preflights' reports are printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from rlwatch.cli.base import Format, wrong

if TYPE_CHECKING:
    from rlwatch.preflight.checks import Report


def told(look: Callable[[], Report], form: Format) -> int:
    """Prints a report and gives its exit code."""
    from rlwatch.offline.render import printable
    from rlwatch.preflight.checks import PreflightError
    from rlwatch.sinks.jsonl import clean

    try:
        report = look()
    except (PreflightError, ModuleNotFoundError) as error:
        return wrong(printable(str(error)))
    if form is Format.JSON:
        print(json.dumps(clean(report.as_dict()), allow_nan=False))
    else:
        print("\n".join(printable(line) for line in report.lines()))
    return report.exit_code
