"""The false-alarm budget: simulated healthy runs stay within it, and the committed table is that of these settings."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from rlwatch.config import load_settings
from rlwatch.detectors.registry import detector_classes

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import false_alarms  # noqa: E402
import healthy_runs  # noqa: E402


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    """The committed table."""
    found: dict[str, Any] = json.loads((BENCHMARKS / "false_alarms.json").read_text(encoding="utf-8"))
    return found


def test_healthy_runs_stay_within_the_budget() -> None:
    """A run of each fourth kind, at its preset, and young runs of every kind: no critical, few warnings."""
    kinds = range(len(healthy_runs.CONDITIONS))
    long = [false_alarms.judge((kind, 101, false_alarms.LONG, "")) for kind in kinds[::4]]
    short = [false_alarms.judge((kind, 101, false_alarms.SHORT, "")) for kind in kinds]
    found = false_alarms.rates([*long, *short])
    assert not any(severity == "critical" for _, told in [*long, *short] for _, _, severity in told), found
    warnings = sum(len(told) for _, told in long) / len(long)
    assert warnings <= false_alarms.BUDGET["warnings_per_run"], found


def test_the_committed_table_is_within_the_budget(table: dict[str, Any]) -> None:
    """Over thousands of rows of every kind of run; strict raises no critical that the defaults do not."""
    budget, plain, strict = table["budget"], table["defaults"], table["strict"]
    assert budget == false_alarms.BUDGET
    assert plain["runs"] >= 100
    assert plain["criticals_per_run"] <= budget["criticals_per_run"]
    assert plain["warnings_per_1000"] * false_alarms.LONG / 1000 <= budget["warnings_per_run"]
    assert strict["criticals_per_run"] <= budget["criticals_per_run"]
    assert set(table["conditions"]) == {condition.name for condition in healthy_runs.CONDITIONS}


def test_the_committed_table_is_of_these_settings(table: dict[str, Any]) -> None:
    """Whoever changes a default or adds a detector runs `python benchmarks/false_alarms.py` again."""
    now = load_settings().model_dump(mode="json", include=set(detector_classes()))
    stale = sorted(name for name in {*now, *table["settings"]} if now.get(name) != table["settings"].get(name))
    assert stale == [], "run python benchmarks/false_alarms.py again"
    assert (BENCHMARKS / "false_alarms.md").read_text(encoding="utf-8") == false_alarms.markdown(table)


def test_a_run_depends_on_its_seed_alone() -> None:
    """The same kind, length and seed give the same rows; another seed gives others."""

    def first(seed: int) -> list[dict[str, float]]:
        return [dict(obs.signals) for obs in healthy_runs.observations(healthy_runs.CONDITIONS[0], 20, seed)]

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_every_detector_has_a_signal_to_judge() -> None:
    """No figure is zero because nothing was looked at: each detector is armed in some kind of run."""
    armed: set[str] = set()
    for condition in healthy_runs.CONDITIONS[::6] + healthy_runs.CONDITIONS[-3:]:
        rows = list(healthy_runs.observations(condition, 120, 0))
        for name, kind in detector_classes().items():
            one = kind()
            for obs in rows:
                one.update(obs)
            if one.coverage().state == "armed":
                armed.add(name)
    assert armed == set(detector_classes())
