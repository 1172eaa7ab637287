"""The detection matrix: every fault against every detector, all 22 together in one Watch.

    python benchmarks/matrix.py [--seeds N] [--traces PATH] [--write]

Faults are the generators of tests/faults and the faults of the gym's recorded runs. --write makes matrix.md.
tests/test_matrix.py holds a quick form of it.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before NumPy reads them
    os.environ.setdefault(_name, "1")

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE), str(HERE.parent / "tests")]  # runs from a checkout

from detection_parts.tables import markdown
from faults import FAULTS, Fault, Run, ppo_run, whole

from rlwatch import Watch
from rlwatch.alert import Alert
from rlwatch.detectors.registry import detector_classes

SEEDS = 20
HEALTHY_ROWS = 600
TRACES = HERE / "gym" / "recorded"
PAGE = HERE / "matrix.md"


@dataclass
class Line:
    """A fault's row: the runs of it, and of each detector how often it spoke, was first, and was critical.

    `names` are the detectors that are right.
    """

    fault: str
    names: tuple[str, ...]
    runs: int = 0
    named: int = 0
    told: int = 0
    right_critical: int = 0
    early: int = 0
    spoke: Counter[str] = field(default_factory=Counter)
    critical: Counter[str] = field(default_factory=Counter)
    first: Counter[str] = field(default_factory=Counter)
    delays: list[int] = field(default_factory=list)

    def add(self, alerts: Iterable[tuple[int, Alert]], onset: int) -> None:
        """One run: each alert with its row, and the row of the onset (of a healthy run: 0)."""
        said = list(alerts)
        self.runs += 1
        self.early += any(row < onset for row, _ in said)
        late = [(row, alert) for row, alert in said if row >= onset]
        self.told += bool(late)
        self.spoke.update({alert.detector for _, alert in late})
        self.critical.update({alert.detector for _, alert in late if alert.critical})
        if late:
            self.first.update(sorted({alert.detector for row, alert in late if row == late[0][0]}))
        right = [(row, alert) for row, alert in late if alert.detector in self.names]
        self.named += bool(right)
        self.right_critical += any(alert.critical for _, alert in right)
        self.delays += [right[0][0] - onset] if right else []


def alerts_of(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[int, Alert]]:
    """What the whole catalogue says to a run, with the row."""
    with Watch(catalogue="full", on_critical="continue", record=False, console=False) as watch:
        for number, row in enumerate(rows):
            yield from ((number, alert) for alert in watch.log(row).alerts)
    if watch.failures:
        raise RuntimeError(f"not judged by all of rlwatch: {watch.failures}")


def generated(case: Fault, seeds: Iterable[int]) -> Line:
    """A generator's row: each run with all that a loop can log beside the signals of the fault."""
    line = Line(case.name, (case.detector,))
    for seed in seeds:
        run: Run = case.make(seed=seed)
        line.add(alerts_of(whole(run, run.onset, seed).rows()), run.onset)
    return line


def healthy(seeds: Iterable[int], rows: int = HEALTHY_ROWS) -> Line:
    """The row that must stay empty."""
    line = Line("(none)", ())
    for seed in seeds:
        line.add(alerts_of(ppo_run(rows, seed).rows()), 0)
    return line


def recorded(path: Path) -> list[Line]:
    """The rows of the gym's recorded runs, strengths and seeds of a fault together; healthy ones at the end."""
    from benchmarks.gym.faults import FAULTS as BREAKS
    from benchmarks.gym.traces import load

    lines: dict[str, Line] = {}
    for trace in load(path):
        healthy_run = trace.label == "healthy"
        key = f"{trace.info['trainer']}/{trace.label}"
        line = lines.setdefault(key, Line(key, () if healthy_run else BREAKS[key].names))
        line.add(alerts_of(trace.rows()), 0 if healthy_run else trace.onset_row)
    order = [*BREAKS, *lines]
    return sorted(lines.values(), key=lambda line: order.index(line.fault))


def grid(lines: Iterable[Line]) -> str:
    """Fault x detector: in how many of the runs each detector spoke; `!` where with a critical, bold where first."""
    names = list(detector_classes())
    rows = []
    for line in lines:
        cells = [_cell(line, name) for name in names]
        rows.append([line.fault, str(line.runs), *cells])
    return markdown(["fault", "runs", *(str(number + 1) for number in range(len(names)))], rows)


def _cell(line: Line, name: str) -> str:
    count = line.spoke[name]
    if not count:
        return "" if name not in line.names else "-"
    text = f"{count}{'!' if line.critical[name] else ''}"
    text = f"**{text}**" if 2 * line.first[name] > line.told else text
    return f"[{text}]" if name in line.names else text


def summary(lines: Iterable[Line]) -> str:
    """Each fault: how often it is named, by whom, how late, and who is first."""
    rows = []
    for line in lines:
        first = ", ".join(f"{name} {count}" for name, count in line.first.most_common(3))
        rows.append([
            line.fault,
            f"{line.named} of {line.runs}" if line.names else f"{line.told} of {line.runs} told",
            f"{median(line.delays):g}" if line.delays else "-",
            str(line.right_critical) if line.names else "-",
            first or "-",
            str(line.early) if line.names else "-",
        ])
    head = ["fault", "rightly named", "after rows", "critical", "who spoke first (runs)", "alert before it (runs)"]
    return markdown(head, rows)


def page(sections: dict[str, list[Line]], seeds: int) -> str:
    """matrix.md."""
    legend = "\n".join(f"{number + 1}. `{name}`" for number, name in enumerate(detector_classes()))
    text = f"""# Detection matrix

Made by `python benchmarks/matrix.py --write`: every fault through one `Watch(catalogue="full")` with its defaults.

A cell says in how many of the fault's runs a detector spoke, from the onset on: `!` with a critical in at least one,
**bold** where it was the first in most of them (or together with the first), [in brackets] where it is right by what
the fault says of itself, `-` where it would have been and was silent. Others that speak are not wrong: a reward that
dies takes its spread and the gradient with it. Below each grid: runs of which a right detector spoke, rows after the
onset until it did (median), and runs in which a right one was critical.

The detectors:

{legend}
"""
    for title, lines in sections.items():
        about = _ABOUT[title].format(seeds=seeds)
        text += f"\n## {title}\n\n{about}\n\n{grid(lines)}\n\n{summary(lines)}\n"
    return text


_ABOUT = {
    "Generated faults": """The generators of `tests/faults`, {seeds} seeds each, among all the signals that a PPO loop
with a critic and an inference engine logs, at the levels of real healthy runs. They are the textbook cases that the
detectors' own tests use: the table shows who else speaks, and who is first. `(none)` is the loop without a fault.""",
    "Recorded faults": """The gym's runs (`benchmarks/gym`): real small GRPO and PPO training, broken on purpose, all
strengths and seeds of a fault in one row; `grpo/healthy` and the like are runs without one. Mild strengths do no harm
in some runs, and silence is right there: [detection.md](detection.md) leaves those out.""",
}


def main(given: list[str] | None = None) -> int:
    """1 where a generated fault is never named, or a healthy run has an alert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of each generator (default {SEEDS})")
    parser.add_argument("--traces", type=Path, default=TRACES, metavar="PATH", help="the gym's traces")
    parser.add_argument("--write", action="store_true", help="write matrix.md beside this file")
    chosen = parser.parse_args(given)
    seeds = range(chosen.seeds)
    lines = [*(generated(case, seeds) for case in FAULTS.values()), healthy(seeds)]
    sections = {"Generated faults": lines}
    if chosen.traces.exists():
        sections["Recorded faults"] = recorded(chosen.traces)
    text = page(sections, chosen.seeds)
    print(text)
    if chosen.write:
        PAGE.write_text(text, encoding="utf-8")
    return int(any(not line.named for line in lines[:-1]) or bool(lines[-1].told))


if __name__ == "__main__":
    sys.exit(main())
