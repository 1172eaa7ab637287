"""What the tests of several adapters share."""

from __future__ import annotations

import pytest


@pytest.fixture
def whole_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test begins with environments of `support_sb3` that are whole."""
    from support_sb3 import Breakable  # needs stable-baselines3, which other adapters' environments have not

    monkeypatch.setattr(Breakable, "change", None)
