"""loss_nonfinite: critical at the very row, for what is numerically dead and for nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from faults import Run, gradient_inf, healthy, loss_nan
from harness import alerts_of, assert_quiet, told

NAME = "loss_nonfinite"

DEAD = ["loss", "policy_loss", "value_loss", "grad_norm", "kl", "approx_kl", "ratio"]
HARMLESS = ["explained_variance", "logits_chosen", "logits_rejected", "response_length_mean", "reward_std", "step_time"]


def at_row(signal: str, value: float, *rows: int) -> Run:
    """A healthy run with a bad value in some rows."""
    run = healthy(60)
    values = run.signals.get(signal, np.ones(60)).copy()
    values[list(rows)] = value
    return run.having(**{signal: values})


@pytest.mark.parametrize("row", [0, 1, 5, 59])
@pytest.mark.parametrize(("value", "text"), [(math.nan, "NaN"), (math.inf, "+Inf"), (-math.inf, "-Inf")])
@pytest.mark.parametrize("signal", DEAD)
def test_critical_at_the_row(signal: str, value: float, text: str, row: int) -> None:
    """One bad value at any row, the first and the last too, is one critical at that row that names the value."""
    alerts = alerts_of(NAME, at_row(signal, value, row))
    assert [(alert.step, alert.severity.value) for alert in alerts] == [(row, "critical")]
    assert f"is non-finite ({text})" in alerts[0].message
    assert alerts[0].evidence["values"] == {signal: text}


@pytest.mark.parametrize("signal", HARMLESS)
def test_nan_that_healthy_runs_have(signal: str) -> None:
    """NaN in statistics that are undefined at times is not a dead run."""
    assert_quiet(NAME, at_row(signal, math.nan, *range(60)))


def test_message() -> None:
    """'Loss is non-finite (NaN)', in the words of the playbook."""
    assert alerts_of(NAME, loss_nan())[0].message == "Loss is non-finite (NaN)"
    assert alerts_of(NAME, gradient_inf())[0].message == "Gradient norm is non-finite (+Inf)"


def test_several_at_once_are_one_alert() -> None:
    """Loss and gradient NaN in the same row are one alert that names both."""
    run = at_row("loss", math.nan, 30)
    norm = run.signals["grad_norm"].copy()
    norm[30] = math.inf
    (alert,) = alerts_of(NAME, run.having(grad_norm=norm))
    assert alert.evidence["values"] == {"loss": "NaN", "grad_norm": "+Inf"}
    assert "loss" in alert.message.lower()
    assert "grad_norm" in alert.message or "gradient" in alert.message.lower()


def test_a_run_that_stays_dead_is_told_once() -> None:
    """NaN at every row from 100 on is one alert, not a hundred."""
    assert [alert.step for alert in alerts_of(NAME, loss_nan())] == [100]


def test_each_outbreak_is_told() -> None:
    """NaN at rows 10, 20 and 40 with finite rows between them are three alerts."""
    assert [alert.step for alert in alerts_of(NAME, at_row("loss", math.nan, 10, 20, 40))] == [10, 20, 40]


def test_huge_is_not_infinite() -> None:
    """1e300 is a number; other detectors may mind."""
    assert told(alerts_of(NAME, at_row("loss", 1e300, 10))) == []
