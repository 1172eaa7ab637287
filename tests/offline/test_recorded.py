"""Settings beside a run: read where they are settings, and never walked over where they are a bomb."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from rlwatch.offline.audit import record
from rlwatch.offline.compare.settings import of_run
from rlwatch.offline.recorded import load

NAMES = "abcdefghi"
LISTS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise(NAMES)
)
"""Nine lines that stand for 9 ** 9 texts."""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", LISTS),
        ("config.yaml", "a: &a [*a]\n"),
        ("config.yaml", "a: !!python/object/apply:os.system [false]\n"),
        ("config.yaml", "a: [\n"),
        ("config.json", '{"a":' * 50_000),
        ("config.json", "[1, 2]"),
        ("config.json", ""),
    ],
)
def test_what_is_no_settings_is_left_out(tmp_path: Path, name: str, text: str) -> None:
    """References that multiply, references to oneself, tags that would run code, deep nesting, broken files."""
    (tmp_path / name).write_text(text)
    assert load(tmp_path / name) == {}
    assert of_run(str(tmp_path)) == {}
    assert record.of_run(tmp_path)["files"] == []


def test_references_as_people_write_them_are_followed(tmp_path: Path) -> None:
    """A few anchors, also merged ones, are settings."""
    (tmp_path / "config.yaml").write_text("base: &base {seed: 3, lr: 0.1}\nactor: {<<: *base, lr: 0.2}\n")
    assert load(tmp_path / "config.yaml")["actor"] == {"seed": 3, "lr": 0.2}
    assert of_run(str(tmp_path))["actor.lr"] == "0.2"
    (tmp_path / "args.json").write_text(json.dumps({"full_determinism": True}))
    assert record.of_run(tmp_path)["seed"] == 3
