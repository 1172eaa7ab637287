"""One run as a picture for a terminal of any width and height, by rich."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rlwatch.detectors.roster import roster
from rlwatch.telling import printable
from rlwatch.terminal.glyphs import Glyphs, marks, sparkline
from rlwatch.terminal.record import RunRecord, number
from rlwatch.terminal.states import State, states
from rlwatch.wording import duration

STYLES = {
    "critical": "bold red", "warning": "yellow", "armed": "green", "clean": "green", "failed": "magenta",
    "recovered": "green", "halted": "bold red", "not evaluated": "bold",
    "died": "bold red", "running": "bold", "ended": "bold",
}  # fmt: skip

_FIRST = (
    "reward_mean", "kl", "approx_kl", "rollout_kl", "entropy", "grad_norm", "loss", "reward_std", "advantage_std",
    "clip_fraction", "response_length_mean", "gold_score", "explained_variance", "value_loss", "episode_length_mean",
    "learning_rate", "step_time",
)  # fmt: skip
"""Signals in the order in which they are shown, after those that an alert was about."""

_NAME, _VALUE = 24, 9
_SIGNALS = 24, 24  # shown at most: on a screen, on paper without an end
_ALERTS = 8, 16
_LEAST = 6  # lines for signals and alerts; where there are fewer, detectors that are well are only counted


class Space(NamedTuple):
    """What there is to draw on; `height` None without a limit."""

    width: int
    height: int | None
    glyphs: Glyphs


def picture(record: RunRecord, space: Space) -> RenderableType:
    """The run: what it is, its verdict, signals, detectors, last alerts."""
    lines = states(record)
    head = [*header(record, space), *verdict(record, space)]
    grid, rows = _detectors(lines, space)
    if space.height is not None and space.height - len(head) - rows < _LEAST:
        grid, rows = _detectors([line for line in lines if line.word in ("critical", "warning", "failed")], space)
    alerts, most = _room(record, None if space.height is None else space.height - len(head) - rows)
    signals = list(_signals(record, space, most))
    parts: list[RenderableType] = [*head, *signals, _title(_tally(lines), space), grid]
    if alerts:
        parts += [_title("last alerts", space), *_last_alerts(record, alerts, space)]
    return Group(*parts)


def _room(record: RunRecord, free: int | None) -> tuple[int, int]:
    """How many alerts and signals are shown, where `free` lines are left for them and their titles."""
    if free is None:
        return min(len(record.alerts), _ALERTS[1]), _SIGNALS[1]
    free -= 4 if record.alerts else 2
    alerts = min(len(record.alerts), _ALERTS[0], max(1, free // 3))
    return alerts, min(_SIGNALS[0], max(2, free - alerts))


def header(record: RunRecord, space: Space) -> Iterator[Text]:
    """The run's name and life, and how far it is."""
    name = Text("rlwatch ", "bold", no_wrap=True, overflow="crop")
    name.append(_fit(printable(str(record.info.get("run_id") or record.folder.name)), space.width - 16), "cyan")
    yield name.append("  ").append(record.life, STYLES[record.life])
    pace, dot = record.seconds_per_step, f" {space.glyphs.dot} "
    facts = [f"step {record.step}", f"{record.row:,} rows"] if record.rows else ["no row yet"]
    facts += [f"{pace:.3g} s/step"] if pace else []
    facts.append(duration(record.seconds))
    if record.cost is not None:
        facts += str(record.cost).split(", ")[2:]  # without its steps and hours
    yield _line(dot.join(facts), space)


def verdict(record: RunRecord, space: Space) -> Iterator[Text]:
    """The verdict, what broke first, the first thing to do, and what was done to the run."""
    counts = Counter({s: sum(count.get(s, 0) for count in record.counts.values()) for s in ("critical", "warning")})
    text = Text("verdict  ", no_wrap=True, overflow="crop").append(record.outcome.upper(), STYLES[record.outcome])
    told = [f"{n} {severity}{'s' * (n != 1)}" for severity, n in counts.items() if n]
    yield text.append(f" ({', '.join(told)})" if told else "")
    found = record.diagnosis
    if found:
        yield _line(f"broke    {found.get('title', '')}", space)
        fixes = found.get("fixes")
        first = fixes[0] if isinstance(fixes, list) and fixes else None
        if isinstance(first, dict):
            yield _line(f"do       {first.get('text', '')}", space)
    for event in list(record.events)[-2:]:
        yield _line(f"done     step {event.get('step')}: {event.get('event')}: {event.get('message', '')}", space)


def alert_line(alert: dict[str, object], space: Space) -> Text:
    """One alert in one line."""
    severity = str(alert.get("severity"))
    text = Text(no_wrap=True, overflow="crop")
    text.append(f"step {alert.get('step')} ").append(f"{severity.upper()} ", STYLES.get(severity, ""))
    start = f"{printable(str(alert.get('detector')))}: "
    return text.append(_fit(start + printable(str(alert.get("message"))), space.width - len(text.plain)))


def _signals(record: RunRecord, space: Space, most: int) -> Iterator[Text]:
    names = _in_order(record)
    shown = names[:most]
    if not shown:
        return
    title = f"signals, last {len(record.rows)} rows"
    hidden = len(names) - len(shown)
    yield _title(title + (f" ({hidden} more in steps.jsonl)" if hidden else ""), space)
    name_width = min(_NAME, max(map(len, shown)))
    width = max(8, space.width - name_width - _VALUE - 4)
    for name in shown:
        values = record.values(name)
        text = Text(f"{_fit(printable(name), name_width):<{name_width}} ", no_wrap=True, overflow="crop")
        last = next((value for value in reversed(values) if value is not None), math.nan)
        text.append(f"{_value(last):>{_VALUE}}  ", "bold" if math.isfinite(last) else STYLES["critical"])
        yield text.append(sparkline(values, width, space.glyphs), "cyan")
    steps = [number(row.get("step")) for row in record.rows]
    told = {float(step) for alert in record.alerts if isinstance(step := alert.get("step"), int)}
    below = marks(steps, told, width, space.glyphs)
    if below:
        yield Text(f"{'alerts':<{name_width}} {'':>{_VALUE}}  ").append(below, STYLES["critical"])


def _in_order(record: RunRecord) -> list[str]:
    """Signals of the run: those of detectors that alerted, the usual ones, the others."""
    kinds = roster().kinds
    there = set(record.names())
    spoke = [kinds[name].needs for name in record.alerted if name in kinds]
    alerted = [next((need for need in needs if need in there), "") for needs in spoke]
    return [name for name in dict.fromkeys((*alerted, *_FIRST, *record.names())) if name in there]


def _detectors(lines: list[State], space: Space) -> tuple[Table, int]:
    """A grid of glyph and name, and how many rows it has."""
    wide = max((len(line.detector) for line in lines), default=1)
    across = max(1, min(4, space.width // (min(wide, 26) + 4)))
    table = Table.grid(padding=(0, 2), pad_edge=False)
    rows = math.ceil(len(lines) / across)
    cells = [_cell(line, space) for line in lines] + [Text()] * (rows * across - len(lines))
    for row in range(rows):
        table.add_row(*(cells[column * rows + row] for column in range(across)))
    return table, rows


def _cell(line: State, space: Space) -> Text:
    glyph = space.glyphs.states.get(line.word, "?")
    style = STYLES.get(line.word, "dim")
    return Text(f"{glyph} {_fit(printable(line.detector), 26)}", style, no_wrap=True, overflow="crop")


def _tally(lines: Iterable[State]) -> str:
    counts = Counter(line.word for line in lines)
    order = ("critical", "warning", "armed", "warming", "starved", "failed", "off")
    return "detectors: " + ", ".join(f"{counts[word]} {word}" for word in order if counts[word])


def blind_lines(record: RunRecord) -> list[str]:
    """Why a detector is blind, and the line to change, a line each."""
    return [
        f"{line.word} {line.detector}: {line.note}" + (f" -> {line.fix}" if line.fix else "")
        for line in states(record)
        if line.word in ("starved", "failed")
    ]


def _last_alerts(record: RunRecord, count: int, space: Space) -> Iterator[Text]:
    for alert in list(record.alerts)[-count:]:
        yield alert_line(alert, space)


def _title(text: str, space: Space) -> Text:
    return Text(_fit(text, space.width), "dim underline", no_wrap=True, overflow="crop")


def _line(text: str, space: Space) -> Text:
    return Text(_fit(printable(text), space.width), no_wrap=True, overflow="crop")


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 3)] + "..."


def _value(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else str(value)
