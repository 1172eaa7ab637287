"""What each detector sees in a verl run: the table of docs/verl.md is what a run gives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("verl", reason="verl is not installed: .ci/verl makes its environment and runs these tests")

from support_verl import train

pytestmark = [pytest.mark.usefixtures("elsewhere"), pytest.mark.filterwarnings("ignore")]

PAGE = Path(__file__).parents[2] / "docs" / "verl.md"
BEGIN, END = "<!-- coverage: begin -->\n", "<!-- coverage: end -->"
CALM = ("actor_rollout_ref.actor.optim.lr=1e-3", "critic.optim.lr=1e-3", "trainer.total_training_steps=64")
"""So many steps that no detector is warming up any more."""

RUNS = {
    "as verl comes (GAE)": (),
    "GRPO with a KL loss": ("algorithm.adv_estimator=grpo", "actor_rollout_ref.actor.use_kl_loss=True"),
}


def test_the_coverage_table_of_the_docs_is_what_runs_give(tmp_path: Path) -> None:
    """Two real runs, and the page; `WRITE_DOCS=1` puts a new table there."""
    lines: dict[str, list[str]] = {}
    for name, settings in RUNS.items():
        run = train(tmp_path / name.split()[0], *settings, *CALM)
        assert run.watch.alerts.maxlen is not None
        assert [alert.detector for alert in run.watch.alerts if alert.critical] == []
        for line in run.watch.coverage():
            seen = f"reads `{line.signal}`" if line.state == "armed" else f"{line.state}: {line.reason}"
            lines.setdefault(line.detector, [line.link]).append(seen)
    head = f"| detector | link | {' | '.join(RUNS)} |\n|---|---|{'---|' * len(RUNS)}\n"
    table = head + "".join(f"| `{name}` | {' | '.join(cells)} |\n" for name, cells in lines.items())
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    shown, after = rest.split(END)
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(before + BEGIN + table + END + after, encoding="utf-8")
    else:
        assert shown == table
