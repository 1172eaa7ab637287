"""The recorded runs, replayed: what the detectors say to them is no worse than the committed table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import pytest

from benchmarks.gym.detected import TABLE, Counts, Told, counts, replay
from benchmarks.gym.faults import FAULTS
from benchmarks.gym.traces import load


@pytest.fixture(scope="module")
def told() -> Iterator[list[Told]]:
    """Every recorded run with its alerts."""
    return [replay(trace) for trace in load()]


@pytest.fixture(scope="module")
def recorded() -> Counts:
    """The committed table."""
    table: Counts = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


def test_no_healthy_run_gets_a_critical(told: list[Told]) -> None:
    """That would be a wrong halt."""
    assert [one.trace.key for one in told if not one.trace.fault and any(alert.critical for alert in one.alerts)] == []


def test_every_fault_is_seen_as_often_as_it_was(told: list[Told], recorded: Counts) -> None:
    """Alerted, critical and rightly named: a change that loses one must say so by a new table."""
    now = counts(told)
    assert now.keys() == recorded.keys()
    for name, row in recorded.items():
        assert now[name]["runs"] == row["runs"], name
        for column in {"alerted", "critical", "named"} & row.keys():
            if "healthy" not in name:
                assert now[name][column] >= row[column], (name, column)
        if "early critical" in row:
            assert now[name]["early critical"] <= row["early critical"], name


def test_healthy_runs_are_not_warned_more_often(told: list[Told], recorded: Counts) -> None:
    """Of all trainers together."""
    now = counts(told)
    names = [name for name in recorded if "healthy" in name]
    assert sum(now[name]["alerted"] for name in names) <= sum(recorded[name]["alerted"] for name in names)


def test_every_fault_of_the_plain_trainers_is_recorded(told: list[Told]) -> None:
    """With its onset inside the run, and finite numbers before it."""
    assert {one.trace.fault for one in told} == {"", *(key for key, f in FAULTS.items() if f.trainer != "trl")}
    for one in told:
        trace = one.trace
        assert 0 < trace.onset_row <= len(trace)
        assert all(math.isfinite(row["grad_norm"]) for row in list(trace.rows())[: trace.onset_row]), trace.key
