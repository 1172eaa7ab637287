"""The detection matrix in a quick form: each fault is named, each detector has a fault, healthy loops are silent."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from faults import FAULTS, Fault, ppo_run

from rlwatch.alert import Alert, Severity
from rlwatch.detectors.registry import detector_classes

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import matrix  # noqa: E402

SEEDS = (100, 101, 102)
"""Others than those of the committed table."""

NAMED = 2
"""In so many of them at least the right detector must speak."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("case", FAULTS.values(), ids=list(FAULTS))
def test_each_fault_is_named_by_its_detector(case: Fault) -> None:
    """Among all detectors and all signals of a loop, and nobody halts the run before the fault."""
    line = matrix.generated(case, SEEDS)
    assert line.named >= NAMED, line
    assert line.early == 0, line


def test_healthy_loops_are_silent() -> None:
    """The same loop without a fault, through all detectors."""
    assert matrix.healthy(range(100, 105)).told == 0


def test_every_detector_has_a_fault() -> None:
    """No column is there only for show."""
    assert {case.detector for case in FAULTS.values()} == set(detector_classes())


def test_the_committed_table_is_of_these_faults() -> None:
    """Every generator has a row, none of them is unnamed, and the healthy row is empty."""
    text = (BENCHMARKS / "matrix.md").read_text(encoding="utf-8")
    section = text.split("## Generated faults")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\S+) \| (\d+) of (\d+)( told)? \|", section, re.MULTILINE)
    assert [name for name, *_ in rows] == [*FAULTS, "(none)"]
    for name, named, runs, told in rows:
        assert int(named) == 0 if told else int(named) >= 0.9 * int(runs), name
    columns = re.findall(r"^\d+\. `(\w+)`$", text, re.MULTILINE)
    assert columns == list(detector_classes())


def said(detector: str, severity: Severity = Severity.WARNING) -> Alert:
    return Alert(detector=detector, severity=severity, step=0, message="")


def test_a_line_counts_runs_not_alerts() -> None:
    """Who spoke, who was first, who was critical and how late the right one was, run by run."""
    line = matrix.Line("fault", ("kl_explosion",))
    critical = said("kl_explosion", Severity.CRITICAL)
    line.add([(12, said("clip_fraction")), (15, critical), (30, critical)], onset=10)
    line.add([(5, said("throughput")), (11, said("kl_explosion")), (11, said("clip_fraction"))], onset=10)
    line.add([], onset=10)
    assert (line.runs, line.told, line.named, line.early, line.right_critical) == (3, 2, 2, 1, 1)
    assert line.spoke == {"clip_fraction": 2, "kl_explosion": 2}
    assert line.first == {"clip_fraction": 2, "kl_explosion": 1}
    assert line.critical == {"kl_explosion": 1}
    assert line.delays == [5, 1]
    assert "| fault | 2 of 3 | 3 | 1 | clip_fraction 2, kl_explosion 1 | 1 |" in matrix.summary([line])
    cells = matrix.grid([line]).splitlines()[-1].split(" | ")
    names = list(detector_classes())
    assert cells[2 + names.index("clip_fraction")] == "**2**"
    assert cells[2 + names.index("kl_explosion")] == "[2!]"


def test_a_silent_detector_shows() -> None:
    """Where the right one was silent the cell is a dash, not empty."""
    line = matrix.Line("fault", ("kl_explosion",), runs=3)
    assert matrix.grid([line]).splitlines()[-1].count("| - |") == 1
    assert "0 of 3" in matrix.summary([line])


def test_a_loop_with_everything() -> None:
    """The healthy loop of the matrix starves none but those that read texts or samples."""
    from rlwatch import Watch

    with Watch(catalogue="full", record=False, console=False, strict=True) as watch:
        for row in ppo_run(60).rows():
            watch.log(row)
        starved = {line.detector for line in watch.coverage().in_state("starved")}
    assert starved == {"side_metrics", "reward_bimodality"}
