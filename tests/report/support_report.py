"""Runs for the tests of the report: recorded by rlwatch itself, or put together line by line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlwatch import Watch

HOSTILE = (
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 2'><b>bold <i>unclosed",
    "pay \u202etxt.exe\u202c \u2066isolated\u2069 zero\u200bwidth bell\x07 escape\x1b[31mred null\x00 half\ud800",
    "{{ 7 * 7 }} {% for x in y %} ${1 + 1} -->]]><!--",
    "</pre></article></main><style>body { display: none }</style>",
)
"""Completions that try to be more than text."""


def broken_run(folder: Path, steps: int = 90, texts: Iterable[str] = ("fine", *HOSTILE)) -> Path:
    """A run of which KL explodes and whose loss is NaN at the end, with a rollback between."""
    words = list(texts)
    rng = np.random.default_rng(0)
    watch = Watch("grpo", runs_dir=folder, run_id="broken", console=False, stall=False)
    for step in range(steps):
        bad = step >= steps - 12
        if step in (5, steps - 12):
            time.sleep(0.5)  # the recorder catches up: of rows that wait for the disk it keeps no texts
        rewards = rng.normal(0.2 if bad else 0.6, 0.1, 16)
        watch.log(
            {"kl": 3.0 if bad else 0.05 + 0.01 * rng.random(), "entropy": 0.3 + 0.01 * rng.random(), "<b>own</b>": 1.0},
            step=step, loss=float("nan") if step == steps - 2 else 0.1, grad_norm=1.0 + 0.1 * rng.random(),
            rewards=rewards, advantages=rewards - rewards.mean(), response_lengths=rng.integers(9, 99, 16) * 1.0,
            group_ids=np.arange(16) // 4, completions=[words[i % len(words)] for i in range(16)], prompts=["2+2="] * 16,
        )  # fmt: skip
        if step == steps - 4:
            facts: dict[str, Any] = {"to_step": steps - 30, "remedies": ["KL coefficient 0.04 -> 0.08"]}
            watch.announce("rollback", step, "went back", **facts)
    home = watch.run_dir
    watch.close()
    assert home is not None
    assert watch.counts
    return home


def write_run(folder: Path, rows: Iterable[Mapping[str, Any]], **files: Iterable[Mapping[str, Any]]) -> Path:
    """A run folder with these rows in `steps.jsonl`, and further files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in {"steps": rows, **files}.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder
