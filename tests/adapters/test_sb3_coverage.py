"""The coverage table of docs/sb3.md is what real runs with SB3's defaults give."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("stable_baselines3", reason="needs stable-baselines3: pip install 'rlwatch[sb3]'")

from support_coverage import table
from support_sb3_coverage import reports

DOCS = Path(__file__).resolve().parents[2] / "docs" / "sb3.md"


@pytest.mark.usefixtures("elsewhere")
def test_the_table_in_the_docs_is_generated() -> None:
    """Word for word; `python tests/adapters/support_sb3_coverage.py` prints it anew."""
    shown = DOCS.read_text().split("<!-- coverage -->")[1].split("<!-- /coverage -->")[0]
    assert shown.strip() == table(reports())
