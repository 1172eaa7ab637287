"""The coverage table of docs/trl.md is what real runs with TRL's defaults give."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_coverage import table
from support_trl_coverage import reports

DOCS = Path(__file__).resolve().parents[2] / "docs" / "trl.md"


@pytest.mark.usefixtures("elsewhere")
def test_the_table_in_the_docs_is_generated() -> None:
    """Word for word; `python tests/adapters/support_trl_coverage.py` prints it anew."""
    shown = DOCS.read_text().split("<!-- coverage -->")[1].split("<!-- /coverage -->")[0]
    assert shown.strip() == table(reports())
