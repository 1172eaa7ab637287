"""What one `Watch.log` costs the training thread, beside the package of the same name on PyPI."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from overhead_parts import rows
from overhead_parts.measure import describe, print_table, verdict
from overhead_parts.peer import Peer
from overhead_parts.timed import Timed, Times

ROWS = 4000  # distinct rows of a case; they are used again and again
WARM = 500
TIGHT = 5000  # calls of a block without a pause, about twice what wakes the writer thread
PACED = 400
SETTLE = 0.4  # seconds after a block for the writer thread, which must not write in another case's time


class Arm(Protocol):
    """One that takes rows: ours, or the other package in its own process."""

    def block(self, calls: int, paced: bool) -> Times:
        """Time the next calls."""


@dataclass
class Case:
    """One line of the table."""

    name: str
    arm: Arm
    limits: tuple[float | None, float | None] = (None, None)
    paced: bool = False
    times: dict[str, Times] = field(default_factory=lambda: {"tight": [], "paced": []})


class Calls:
    """A function, and the rows that it is given in a circle."""

    def __init__(self, call: Callable[[dict[str, Any]], object], table: list[dict[str, Any]]) -> None:
        self._timed = Timed(call)
        self._rows = table
        self._next = 0

    def block(self, calls: int, paced: bool) -> Times:
        """Time the next calls."""
        rows = [self._rows[i % len(self._rows)] for i in range(self._next, self._next + calls)]
        self._next += calls
        return self._timed(rows, paced)


class Ours(Calls):
    """A Watch."""

    def __init__(self, table: list[dict[str, Any]], folder: str, record: bool = True) -> None:
        from rlwatch import Watch

        self.watch = Watch(record=record, console=False, report=False, runs_dir=folder)
        super().__init__(self.watch.log, table)


def nothing(row: dict[str, Any]) -> float:
    """About as much Python as a `Watch.log`, without a thread or a file: what the machine does to any such call."""
    total = 0.0
    for _ in range(64):
        for value in row.values():
            total += value * 0.5
    return total


def measure(options: Any) -> dict[str, Any]:
    """Blocks of all cases by turns, so that noise on the machine hits all of them."""
    peer, why = Peer.made(options.peer)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        cases = _cases(folder, peer)
        for case in cases:
            case.arm.block(WARM, False)
        for _ in range(options.rounds):
            for case in cases:
                case.times["tight"] += case.arm.block(TIGHT, False)
                time.sleep(SETTLE)
        for _ in range(options.rounds):
            for case in cases:
                if case.paced:
                    case.times["paced"] += case.arm.block(PACED, True)
                    time.sleep(SETTLE)
        figures = [_figures(case) for case in cases]
        for case in cases:
            if isinstance(case.arm, Ours):
                case.arm.watch.close()
    if peer is not None:
        peer.close()
    return {"cases": figures, "peer": why}


def _cases(folder: str, peer: Peer | None) -> list[Case]:
    twenty, seven = rows.scalars(ROWS), rows.scalars(ROWS, rows.SEVEN)
    many, some = rows.rewards(ROWS, 1024), rows.rewards(ROWS, 64)
    solved = [(batch > 0.5).astype(float) for batch in many]

    def ours(table: list[dict[str, Any]], record: bool = True) -> Ours:
        return Ours(table, folder, record)

    def plus(table: list[dict[str, Any]], batches: list[Any]) -> list[dict[str, Any]]:
        return [{**row, "rewards": batch} for row, batch in zip(table, batches, strict=True)]

    heavy = (150.0, None)
    cases = [
        Case("(control: a Python loop)", Calls(nothing, twenty), paced=True),
        Case("20 scalars", ours(twenty), (30.0, 100.0), paced=True),
        Case("20 scalars, not recorded", ours(twenty, record=False)),
        Case("+ 1,024 rewards, NumPy", ours(plus(twenty, many)), heavy, paced=True),
        Case("+ 1,024 rewards, NumPy, 0/1", ours(plus(twenty, solved)), heavy),
        Case("+ 1,024 rewards, list", ours(plus(twenty, [batch.tolist() for batch in many])), heavy),
        *_torch_cases(twenty, many, ours, plus),
        Case("7 scalars", ours(seven), paced=True),
        Case("7 scalars + 64 rewards", ours(plus(seven, some))),
    ]
    if peer is not None:
        lists = [batch.tolist() for batch in some]
        cases += [
            Case("PyPI 0.5.1: 7 scalars", peer.arm("seven", seven), paced=True),
            Case("PyPI 0.5.1: 7 scalars + 64 rewards", peer.arm("rewards", plus(seven, lists))),
        ]
    return cases


def _torch_cases(twenty: list[dict[str, Any]], many: list[Any], ours: Any, plus: Any) -> list[Case]:
    try:
        import torch
    except ImportError:
        return []
    torch.set_num_threads(1)
    tensors = [{name: torch.tensor(value) for name, value in row.items()} for row in twenty[:1000]]
    batches = [torch.from_numpy(batch) for batch in many]
    return [
        Case("+ 1,024 rewards, torch on the CPU", ours(plus(twenty, batches)), (150.0, None)),
        Case("20 torch scalars on the CPU", ours(tensors)),
    ]


def _figures(case: Case) -> dict[str, Any]:
    found: dict[str, Any] = {"case": case.name, "limits": case.limits}
    found.update({pace: describe(times) for pace, times in case.times.items() if times})
    if isinstance(case.arm, Ours):
        found["alerts"] = case.arm.watch.counts
    return found


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    head = ("", "median us", "p99 us", "p99*", "p99.9*", "cpu median", "median", "p99", "p99*")
    for pace, title in (("tight", "in a tight loop"), ("paced", "with milliseconds of work before each call")):
        lines = [_line(case, case[pace], pace) for case in result["cases"] if pace in case]
        print_table(f"Watch.log, one call, {title}", head, lines)
    print("  * of the calls during which the system did not take the core away")
    print(f"  {result['peer']}")


def _line(case: dict[str, Any], found: dict[str, float], pace: str) -> tuple[Any, ...]:
    median, p99 = case["limits"] if pace == "tight" else (None, None)
    return (
        case["case"], found["median_us"], found["p99_us"], found["p99_kept_us"], found["p999_kept_us"],
        found["cpu_median_us"], verdict(found["median_us"], median), verdict(found["p99_us"], p99),
        verdict(found["p99_kept_us"], p99),
    )
