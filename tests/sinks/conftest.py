"""What the tests of the sinks share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlwatch.alert import Alert, Severity
from rlwatch.observation import Observation


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def strict_loads(text: str | bytes) -> Any:
    """Parse strict JSON: the bare words NaN and Infinity, which Python takes, are errors."""
    return json.loads(text, parse_constant=_refuse)


@pytest.fixture(scope="session")
def read_lines() -> Callable[[Path], list[dict[str, Any]]]:
    """Reads a JSONL file, of which every line must be whole and strict."""

    def read(path: Path) -> list[dict[str, Any]]:
        data = path.read_bytes()
        assert data == b"" or data.endswith(b"\n")
        return [strict_loads(line) for line in data.splitlines()]

    return read


@pytest.fixture(scope="session")
def parse() -> Callable[[str | bytes], Any]:
    """Parses strict JSON."""
    return strict_loads


@pytest.fixture(scope="session")
def make_step() -> Callable[..., Observation]:
    """Makes an observation: `make_step(3, kl=0.1)`."""

    def make(step: int, samples: dict[str, Any] | None = None, **signals: float) -> Observation:
        observation = Observation(step, row=step, time=1000.0 + step)
        observation.signals.update(signals)
        observation.samples.update(samples or {})
        return observation

    return make


@pytest.fixture(scope="session")
def make_alert() -> Callable[..., Alert]:
    """Makes an alert: `make_alert(3, "warning")`."""

    def make(step: int, severity: str = "critical", detector: str = "kl_explosion", **evidence: Any) -> Alert:
        return Alert(
            detector=detector,
            severity=Severity(severity),
            step=step,
            message="KL divergence = 0.41, 6.2 sigma above rolling mean",
            evidence=evidence or {"kl": 0.41, "sigma": 6.2},
            playbook=f"playbook/{detector}.md",
            remedy="Raise the KL coefficient to 2x its value.",
            time=1000.0 + step,
        )

    return make
