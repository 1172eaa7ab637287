"""Presets: each changes what it says, for a reason, and asks for no signal that its algorithm does not have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlwatch import Watch, presets
from rlwatch.cli import main
from rlwatch.config import load_settings, settings_class
from rlwatch.detectors.registry import detector_classes
from rlwatch.presets import CATALOGUE, PRESETS, STRICT

BASES = ("grpo", "rlvr", "ppo", "dpo", "classic")
DOCS = Path(__file__).resolve().parents[1] / "docs" / "presets.md"

every_preset = pytest.mark.parametrize("name", CATALOGUE)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file but the test's own."""
    monkeypatch.chdir(tmp_path)


def test_the_presets_are_there() -> None:
    """Five algorithms, each also strict."""
    assert set(CATALOGUE) == {*BASES, *(f"{name}-strict" for name in BASES)} == set(PRESETS)


@every_preset
def test_a_preset_changes_what_it_says(name: str) -> None:
    """Every change is a known setting, differs from the default, has a reason, and holds; nothing else differs."""
    default, chosen = load_settings(), load_settings(preset=name)
    seen = []
    for change in CATALOGUE[name].changes:
        detector, _, setting = change.setting.partition(".")
        assert getattr(getattr(chosen, detector), setting) == change.value
        assert getattr(getattr(default, detector), setting) != change.value
        assert change.why
        seen.append(change.setting)
    assert len(seen) == len(set(seen))
    for detector in detector_classes():
        before, after = getattr(default, detector).model_dump(), getattr(chosen, detector).model_dump()
        assert {f"{detector}.{key}" for key in before if before[key] != after[key]} <= set(seen)
    assert CATALOGUE[name].about


@every_preset
def test_absent_detectors_exist_and_say_why(name: str) -> None:
    """What is absent by nature is a detector's id with a reason."""
    absent = CATALOGUE[name].absent
    assert set(absent) <= set(detector_classes())
    assert all(absent.values())


@pytest.mark.parametrize("base", BASES)
def test_strict_touches_warnings_only(base: str) -> None:
    """A strict preset has the algorithm's changes and lower limits for warnings; no critical comes sooner by it."""
    strict = load_settings(preset=f"{base}-strict")
    plain = load_settings(preset=base)
    assert CATALOGUE[f"{base}-strict"].absent == CATALOGUE[base].absent
    for detector in detector_classes():
        before, after = getattr(plain, detector).model_dump(), getattr(strict, detector).model_dump()
        changed = {f"{detector}.{key}" for key in before if before[key] != after[key]}
        assert changed <= {change.setting for change in STRICT}
        assert not any("critical" in key for key in changed)


def test_keywords_win_over_a_preset() -> None:
    """Key by key: what the preset says besides stays."""
    settings = load_settings(preset="grpo-strict", kl_explosion={"warning_level": 0.5})
    assert settings.kl_explosion.warning_level == 0.5
    assert settings.kl_explosion.creep_level == 0.25


def watch(preset: str | None) -> Watch:
    """A silent Watch."""
    return Watch(preset, record=False, console=False, strict=True)


def test_what_is_absent_by_nature_is_told_as_such() -> None:
    """DPO has no rollouts: coverage says so instead of asking for their signals; without a preset it asks."""
    one, other = watch("dpo"), watch(None)
    for _ in range(12):
        one.log(loss=0.5)
        other.log(loss=0.5)
    line = one.coverage()["clip_fraction"]
    assert (line.state, line.reason, line.fix) == ("off", "preference training has no rollouts", "")
    assert one.coverage()["gradient_spike"].state == "starved"
    assert other.coverage()["clip_fraction"].state == "starved"


def test_a_signal_that_comes_all_the_same_is_watched() -> None:
    """Online DPO has rollouts: its detectors work, and are starved when their signal stops."""
    one = watch("dpo")
    for step in range(40):
        one.log(loss=0.5, clip_fraction=0.1, step=step)
    assert one.coverage()["clip_fraction"].state == "armed"
    for step in range(40, 100):
        one.log(loss=0.5, step=step)
    assert one.coverage()["clip_fraction"].state == "starved"


def test_a_frameworks_hint_is_better_than_the_reason() -> None:
    """Where the adapter knows what to set, coverage says that."""
    one = watch("dpo")
    one.hints["rewards"] = "pass reward_funcs"
    for _ in range(12):
        one.log(loss=0.5)
    line = one.coverage()["reward_bimodality"]
    assert (line.state, line.fix) == ("starved", "pass reward_funcs")


def test_the_command_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    """`rlwatch presets`: each with its changes, defaults and reasons, and what -strict adds."""
    assert main(["presets"]) == 0
    text = capsys.readouterr().out
    for name in BASES:
        assert re.search(rf"^{name}: .+$", text, re.MULTILINE)
    for preset in CATALOGUE.values():
        for change in preset.changes:
            assert re.search(rf"^  {change.setting}: \S+ -> {change.value}  \(.+\)$", text, re.MULTILINE)
    assert "preference training has no rollouts: " in text
    assert "any of them with -strict" in text


def test_the_page_names_every_change() -> None:
    """docs/presets.md says what each preset changes, with the value."""
    text = DOCS.read_text(encoding="utf-8")
    for name in BASES:
        assert f"`{name}`" in text
        for change in (*CATALOGUE[name].changes, *STRICT):
            row = re.search(rf"^\|.*`{re.escape(change.setting)}`.*$", text, re.MULTILINE)
            assert row, change.setting
            shown = str(change.value).lower() if isinstance(change.value, bool) else str(change.value)
            assert f"| {shown} |" in row[0], row[0]


def test_no_preset_changes_nothing() -> None:
    """The defaults are those of the settings classes; an unknown name has no absent detectors."""
    assert load_settings(report=True) == settings_class()()
    assert presets.absent_by_nature(None) == presets.absent_by_nature("nope") == {}
