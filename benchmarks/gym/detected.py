"""What the detectors say to the recorded runs: `python -m benchmarks.gym.detected [--write]`.

A replay of `recorded/` takes seconds. `--write` keeps the table in `recorded/detected.json`, which the tests hold later
versions against: no healthy run may get a critical, no fault may be seen in fewer runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from benchmarks.gym.faults import FAULTS
from benchmarks.gym.traces import DATA, Trace, load
from rlwatch import Alert, Watch

TABLE = DATA / "detected.json"
Counts = dict[str, dict[str, int | float | None]]


@dataclass(frozen=True)
class Told:
    """A replayed run and its alerts."""

    trace: Trace
    alerts: list[Alert]

    @property
    def after(self) -> list[Alert]:
        """Alerts from the onset on."""
        return [alert for alert in self.alerts if alert.step >= self.trace.onset >= 0]

    @property
    def named(self) -> bool:
        """Whether a detector that names the fault spoke."""
        return any(alert.detector in FAULTS[self.trace.fault].names for alert in self.after)

    @property
    def delay(self) -> int | None:
        """Steps from the onset to the first alert."""
        return self.after[0].step - self.trace.onset if self.after else None


def replay(trace: Trace) -> Told:
    """All detectors, at the trainer's preset, over the rows of one run."""
    with Watch(trace.preset, catalogue="full", on_critical="continue", record=False, console=False) as watch:
        for row in trace.rows():
            watch.log(row)
        return Told(trace, list(watch.alerts))


def counts(told: Iterable[Told]) -> Counts:
    """By fault (or `healthy`): runs, and how many of them were alerted, critical, named, alerted early."""
    groups: dict[str, list[Told]] = {}
    for one in told:
        groups.setdefault(one.trace.fault or f"{one.trace.info['trainer']}/healthy", []).append(one)
    return {name: _row(found) for name, found in sorted(groups.items())}


def _row(found: list[Told]) -> dict[str, int | float | None]:
    healthy = not found[0].trace.fault
    spoke = [one.alerts if healthy else one.after for one in found]
    row: dict[str, int | float | None] = {
        "runs": len(found),
        "alerted": sum(bool(alerts) for alerts in spoke),
        "critical": sum(any(alert.critical for alert in alerts) for alerts in spoke),
    }
    if not healthy:
        delays = [one.delay for one in found if one.delay is not None]
        row |= {
            "named": sum(one.named for one in found),
            "early critical": sum(any(a.critical and a.step < one.trace.onset for a in one.alerts) for one in found),
            "delay": median(delays) if delays else None,
        }
    return row


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns the exit code: 1 if a healthy run got a critical."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gym.detected", description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep it as what the tests compare with")
    options = parser.parse_args(argv)
    told = [replay(trace) for trace in load()]
    table = counts(told)
    names = ["runs", "alerted", "critical", "named", "early critical", "delay"]
    print(f"| run | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for fault, row in table.items():
        print(f"| {fault} | {' | '.join(str(row.get(name, '')) for name in names)} |")
    wrong = [one for one in told if not one.trace.fault and any(alert.critical for alert in one.alerts)]
    for one in wrong:
        print(f"wrong critical: {one.trace.key}: {next(a.message for a in one.alerts if a.critical)}", file=sys.stderr)
    if options.write:
        TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
