"""Without verl the adapter says in one sentence what to install."""

from __future__ import annotations

import importlib
import importlib.util

import pytest


@pytest.mark.skipif(importlib.util.find_spec("verl") is not None, reason="verl is installed here")
def test_without_verl_the_fix_is_named() -> None:
    """The import fails as an import, with the command."""
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rlwatch\[verl\]'"):
        importlib.import_module("rlwatch.adapters.verl")
