"""Records in which any field may hold anything still make both pages."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from support_report import write_run

from rlwatch.report.folder import read_folder
from rlwatch.report.incident_page import render_incident
from rlwatch.report.page import LIMIT, render

PLAIN: list[Any] = [
    None, True, 0, -1, 5, 10**30, 2**60, 1e308, -1e-320, "NaN", "Infinity", "x<y>", "\u202e", [], {}, [1, 2],
    "critical",
]  # fmt: skip
KEYS = (
    "step", "row", "time", "loss", "kl", "extra", "samples", "alerts", "detector", "severity", "message", "evidence",
    "event", "to_step", "remedies", "pick", "index", "reward", "completion", "prompt", "reward_components", "playbook",
)  # fmt: skip


def anything(chance: random.Random, depth: int = 0) -> Any:
    """A JSON value of any kind."""
    if depth == 3 or chance.random() < 0.7:
        return chance.choice(PLAIN)
    if chance.random() < 0.5:
        return [anything(chance, depth + 1) for _ in range(3)]
    return {name: anything(chance, depth + 1) for name in ("a", "step", "min", "max", "hist", "state")}


@pytest.mark.parametrize("seed", range(12))
def test_no_record_is_too_strange(tmp_path: Path, seed: int) -> None:
    """Fields of any line, of `run.json` and of the incident's files are replaced at random."""
    chance = random.Random(seed)

    def lines(count: int, **usual: Any) -> list[dict[str, Any]]:
        made = [{"step": number, **usual} for number in range(count)]
        return [line | {key: anything(chance) for key in chance.sample(KEYS, chance.randint(0, 6))} for line in made]

    alert = {"detector": "kl_explosion", "severity": "critical", "message": "m"}
    shape = {"rewards": {"min": 0, "max": 1, "hist": [1] * 16}, "pairs": [[1, 2]]}
    home = write_run(
        tmp_path / "run", lines(40, loss=0.5, samples=shape), alerts=lines(6, **alert, evidence={"onset": 1}),
        events=lines(3, event="rollback", to_step=0), samples=lines(5, pick="best", completion="c"),
    )  # fmt: skip
    incident = home / "incidents" / "5-kl_explosion"
    write_run(incident, [], window=lines(9, loss=0.5), timeline=lines(2, **alert), samples=lines(2))
    first = json.dumps(alert | {"step": 5, "evidence": anything(chance)})
    (incident / "alert.json").write_text(first, encoding="utf-8")
    names = ("run_id", "settings", "versions", "command", "started", "coverage", "summary", "recording", "pid", "host")
    info = {name: anything(chance) for name in names}
    (home / "run.json").write_text(json.dumps(info), encoding="utf-8")
    for page in (render(read_folder(home)), render_incident(incident)):
        assert page.rstrip().endswith("</html>")
        assert len(page.encode("utf-8", "replace")) < LIMIT
