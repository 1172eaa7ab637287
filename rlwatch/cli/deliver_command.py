"""`rlwatch deliver`."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlwatch.cli.base import Format, Work, wrong
from rlwatch.telling import UNREADABLE, RefusedError, as_json, printable

if TYPE_CHECKING:
    from rlwatch.sinks.notify.drain import Drained
    from rlwatch.sinks.notify.targets import Target

DELIVERED, LEFT = 0, 1


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(deliver)


def deliver(
    place: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a folder of runs.")] = Path(
        "rlwatch_runs"
    ),
    notify: Annotated[
        list[str] | None,
        typer.Option("--notify", metavar="URL", help="Whom to tell; else what the settings name (`notify`)."),
    ] = None,
    seconds: Annotated[float, typer.Option("--for", min=0, help="Seconds for which all this is tried.")] = 60,
    test: Annotated[bool, typer.Option("--test", help="Send a test message to each URL, and nothing else.")] = False,
    form: Annotated[Format, typer.Option("--format", help="Lines to read, or a JSON object.")] = Format.TEXT,
) -> Work:
    """Send the notifications that are still in the outbox of a run.

    A watched run has a sender of its own, which goes on when the training dies. This is for what it left: the whole
    machine went down, or nobody could be reached for an hour. Nothing is sent twice that was surely sent; what was
    begun and not confirmed is sent again, under the same reference.

    The URLs are not in the run folder: give them, or have them in RLWATCH_NOTIFY or rlwatch.yaml as for the run.

    \b
    Examples:
      rlwatch deliver rlwatch_runs/20261121-0312-3fa9
      rlwatch deliver rlwatch_runs --notify slack://TokenA/TokenB/TokenC
      rlwatch deliver --test                       does the channel work?

    \b
    Exit codes:
      0   all is delivered, or nothing waited
      1   something is not delivered, or another process is still at it
      3   there is no outbox, or it cannot be read
      64  the command line or a setting is wrong
    """
    return partial(_deliver, place, notify or [], seconds, test, form.value)


def _deliver(place: Path, urls: list[str], seconds: float, test: bool, form: str) -> int:
    from rlwatch.config import ConfigError, load_settings
    from rlwatch.sinks.notify.drain import drain

    try:
        given: dict[str, Any] = {"notify": urls} if urls else {}
        settings = load_settings(**given)
    except ConfigError as error:
        wrong(str(error))
    if not settings.notify:
        wrong("whom to tell? Give --notify URL, or set RLWATCH_NOTIFY or `notify` in rlwatch.yaml")
    if test:
        return _test(settings.notify, form)
    drained = list(drain(place, settings.notify, seconds, settings.report_url))
    if not drained:
        raise RefusedError(f"{place} is no run with an outbox, and holds none")
    if form == "json":
        print(as_json({"runs": [asdict(one) for one in drained]}))
    else:
        print("\n".join(printable(_line(one)) for one in drained))
    states = {one.state for one in drained}
    return UNREADABLE if "unreadable" in states else LEFT if states & {"left", "busy"} else DELIVERED


def _line(one: Drained) -> str:
    if one.state == "nothing":
        return f"{one.run}: nothing waits"
    if one.state == "busy":
        return f"{one.run}: its sender, or another `rlwatch deliver`, is at work"
    if one.state == "delivered":
        return f"{one.run}: {one.records} delivered"
    return f"{one.run}: not delivered: {'; '.join(one.reasons)}"


def _test(targets: list[Target], form: str) -> int:
    from rlwatch.sinks.notify.drain import try_out

    results = dict(try_out(targets))
    if form == "json":
        print(as_json({"targets": {name: reason or "taken" for name, reason in results.items()}}))
    else:
        print("\n".join(printable(f"{name}: {reason or 'taken'}") for name, reason in results.items()))
    return LEFT if any(results.values()) else DELIVERED
