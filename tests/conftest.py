"""What all tests share: the environment is clean, and hypothesis gives the same examples each time."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("rlwatch", derandomize=True, deadline=None, max_examples=40, database=None)
settings.load_profile("rlwatch")

# A job that a script starts in the background ignores Ctrl-C, and so would the processes that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No RLWATCH_* variable of the developer's shell reaches a test, and no run starts a process for its report."""
    for name in list(os.environ):
        if name.upper().startswith("RLWATCH_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RLWATCH_REPORT", "off")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory: no `rlwatch.yaml` is found, and run folders land in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
