"""The text report of a scan: a table of runs, then the alerts of each; plain, or coloured on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TextIO

from rlwatch.alert import Alert
from rlwatch.diagnosis.timing import NAMES
from rlwatch.offline.replay import Replay
from rlwatch.telling import printable, table

_COLUMNS = ("HEALTH", "ROWS", "ALERTS", "BROKE FIRST", "STEP", "DETECTOR", "ARMED", "RUN")
_WORST_FIRST = ("critical", "warning", "unreadable", "not evaluated", "clean")
_STYLES = {
    "clean": "green",
    "warning|WARNING": "yellow",
    "critical|CRITICAL": "bold red",
    "unreadable|not evaluated": "magenta",
}


def report(results: Sequence[Replay], stream: TextIO) -> None:
    """Prints the report; in colour where `stream` is a terminal and rich is installed."""
    lines = list(report_lines(results))
    if stream.isatty():
        try:
            from rich.console import Console
            from rich.text import Text
        except ImportError:
            pass
        else:
            console = Console(file=stream, highlight=False)
            for line in lines:
                text = Text(line)
                for words, style in _STYLES.items():
                    text.highlight_regex(rf"(^|(?<=  ))({words})(?=  )", style)
                console.print(text, soft_wrap=True)
            return
    stream.write("\n".join(lines) + "\n")


def report_lines(results: Sequence[Replay]) -> Iterator[str]:
    """The lines of the report, without colours."""
    results = sorted(results, key=lambda result: _WORST_FIRST.index(result.health))
    yield from table([_COLUMNS, *map(_row, results)])
    for result in results:
        if result.alerts:
            yield ""
            yield printable(result.run)
            yield from _alerts(result)
            for incident in result.incidents:
                yield ""
                yield from (printable(f"  {line}") for line in incident.lines())
    if len(results) == 1 and results[0].coverage is not None:
        yield ""
        yield from map(printable, results[0].recognised)
        yield ""
        yield str(results[0].coverage)
    counts = Counter(result.health for result in results)
    yield ""
    tally = ", ".join(f"{count} {health}" for health, count in counts.items())
    yield f"{len(results)} run{'s' * (len(results) != 1)}: {tally}"


def _row(result: Replay) -> tuple[str, ...]:
    run = printable(result.run)
    if result.coverage is None:
        return result.health, "-", "-", "-", "-", "-", "-", f"{run}: {printable(result.error)}"
    if result.unjudged:
        run = f"{run}: {printable(result.unjudged)}"
    first = result.incidents[0].first.alert if result.incidents else next(iter(result.alerts), None)
    link = NAMES[result.incidents[0].link] if result.incidents else "-"
    lines = [line for line in result.coverage if line.state != "off"]
    armed = sum(line.state == "armed" for line in lines)
    return (
        result.health,
        f"{result.rows:,}",
        str(len(result.alerts)),
        link,
        str(first.step) if first else "-",
        first.detector if first else "-",
        f"{armed} of {len(lines)}",
        run,
    )


def _alerts(result: Replay) -> Iterator[str]:
    first: dict[str, Alert] = {}
    for alert in result.alerts:
        first.setdefault(alert.detector, alert)
        severity = alert.severity.value.upper()
        yield f"  step {alert.step}  {severity}  {alert.detector}: {printable(alert.message)}"
    for detector, alert in first.items():
        if alert.remedy or alert.playbook:
            page = alert.playbook if "://" in alert.playbook else alert.playbook and f"rlwatch playbook {detector}"
            yield f"  first fix for {detector}: {printable(alert.remedy) or '-'}" + (f"  ({page})" if page else "")
