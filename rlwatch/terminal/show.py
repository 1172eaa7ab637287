"""`rlwatch watch`: follows a run's folder on a terminal, or as plain lines, until the run ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NoReturn

from rich.console import Console
from rich.live import Live

from rlwatch.sinks.jsonl import clean
from rlwatch.telling import RefusedError
from rlwatch.terminal.folder import FolderError, run_folder
from rlwatch.terminal.glyphs import glyphs_for
from rlwatch.terminal.listing import CODES
from rlwatch.terminal.record import RunRecord
from rlwatch.terminal.states import states
from rlwatch.terminal.view import Space, alert_line, blind_lines, header, picture, verdict

UNREADABLE = CODES["unreadable"]
TELL_S = 30.0  # between two lines on a run's progress where there is no terminal
NARROWEST = 40

Form = Literal["text", "json"]


def show(path: Path, *, once: bool, every: float, idle: float | None, form: Form) -> int:
    """Shows the run until it ends and returns the exit code of its verdict; KeyboardInterrupt passes through."""
    console = Console(highlight=False, emoji=False, markup=False)
    try:
        record = RunRecord(run_folder(path))
        _catch_up(record)
        if form == "json":
            _as_json(record, once, every, idle)
        elif once or not _can_draw(console):
            _plain(console, record, once, every, idle)
        else:
            _live(console, record, every, idle)
    except FolderError as error:
        raise RefusedError(str(error)) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RefusedError(f"{path} cannot be read: {error.strerror}") from error
    if record.life == "died":
        pid = record.info.get("pid")
        print(f"rlwatch: the run's process ({pid}) has died without closing the run", file=sys.stderr)
        return UNREADABLE
    return CODES[record.outcome]


def _can_draw(console: Console) -> bool:
    """Whether the output is a terminal that knows how to move its cursor."""
    return console.is_terminal and not console.is_dumb_terminal and sys.stdout.isatty()


def _space(console: Console, *, limited: bool) -> Space:
    height = console.height if limited else None
    return Space(max(NARROWEST, console.width), height, glyphs_for(console.encoding))


def _catch_up(record: RunRecord) -> bool:
    """Reads all that is there; whether it was new."""
    new = record.refresh()
    while record.behind and record.life != "ended":
        if not record.refresh():
            break
    while record.life == "ended" and record.refresh():
        pass
    return new


def _follow(record: RunRecord, every: float, idle: float | None, tell: Callable[[bool], Any]) -> None:
    """Calls `tell` after each look, with whether there is news, until the run is over."""
    heard = time.monotonic()
    while True:
        now = time.monotonic()
        new = _catch_up(record)
        heard = now if new else heard
        tell(new)
        if record.life != "running" or (idle is not None and now - heard >= idle):
            return
        time.sleep(every)


def _live(console: Console, record: RunRecord, every: float, idle: float | None) -> None:
    """On the alternate screen; what was seen last stays on the terminal."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            _follow(
                record, every, idle, lambda _: live.update(picture(record, _space(console, limited=True)), refresh=True)
            )
    finally:
        signal.signal(signal.SIGTERM, before)
        console.print(picture(record, _space(console, limited=False)))


def _end(number: int, frame: object) -> NoReturn:
    """Leaves by way of what gives the terminal back."""
    raise SystemExit(128 + number)


def _plain(console: Console, record: RunRecord, once: bool, every: float, idle: float | None) -> None:
    """The picture once, then a line for each alert and event, and now and then one on the progress."""
    space = _space(console, limited=False)
    console.print(picture(record, space))
    for blind in blind_lines(record):
        console.print(blind, soft_wrap=True)
    if once or record.life != "running":
        return
    sys.stdout.flush()
    told = [record.total, len(record.events), time.monotonic()]

    def tell(new: bool) -> None:
        fresh, told[0] = record.total - int(told[0]), record.total
        for alert in list(record.alerts)[len(record.alerts) - fresh :] if fresh else ():
            console.print(alert_line(alert, Space(10_000, None, space.glyphs)), soft_wrap=True)
        for event in list(record.events)[int(told[1]) :]:
            console.print(f"step {event.get('step')} {event.get('event')}: {event.get('message')}", soft_wrap=True)
        told[1] = len(record.events)
        if new and time.monotonic() - told[2] >= TELL_S:
            told[2] = time.monotonic()
            console.print(list(header(record, space))[1])
        sys.stdout.flush()

    _follow(record, every, idle, tell)
    for line in (*header(record, space), *verdict(record, space)):
        console.print(line)


def _as_json(record: RunRecord, once: bool, every: float, idle: float | None) -> None:
    """An object a line: at first, and whenever something is new."""
    print(json.dumps(snapshot(record)), flush=True)
    if not once and record.life == "running":
        _follow(record, every, idle, lambda new: new and print(json.dumps(snapshot(record)), flush=True))


def snapshot(record: RunRecord) -> dict[str, Any]:
    """The run at this moment as strict JSON values; `signals` are those of the last row."""
    last = dict(record.rows[-1]) if record.rows else {}
    data = {
        "run": os.fspath(record.folder),
        "life": record.life,
        "verdict": record.outcome,
        "step": record.step,
        "rows": record.row,
        "seconds": record.seconds,
        "seconds_per_step": record.seconds_per_step,
        "cost": record.cost.as_dict() if record.cost else None,
        "alerts": record.counts,
        "detectors": {
            line.detector: {"state": line.word, "note": line.note, "fix": line.fix} for line in states(record)
        },
        "incident": record.diagnosis.get("title"),
        "signals": {name: last[name] for name in record.names() if name in last},
    }
    found = clean(data)
    assert isinstance(found, dict)
    return found
