"""Settings: preset < rlwatch.yaml < environment < keywords; a misspelt key is an error that names the right one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlwatch import ConfigError, Watch
from rlwatch.config import load_settings, settings_class
from rlwatch.detectors.registry import detector_classes
from rlwatch.presets import PRESETS

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(autouse=True)
def _preset_with_a_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset that switches a detector off: what a preset may do, whichever the shipped ones are."""
    monkeypatch.setitem(PRESETS, "dpo", {"reward_drift": {"enabled": False}})


def yaml(text: str) -> None:
    """Write `rlwatch.yaml` into the working directory."""
    Path("rlwatch.yaml").write_text(text, encoding="utf-8")


def test_defaults() -> None:
    """Without any source the documented defaults hold, and every detector is on."""
    settings = load_settings()
    assert (settings.on_critical, settings.on_nonfinite, settings.strict, settings.record) == (
        "continue",
        "skip",
        False,
        True,
    )
    assert all(getattr(settings, name).enabled for name in detector_classes())


def test_each_source_overrides_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Preset, then YAML, then environment, then keywords."""
    assert load_settings(preset="classic").advantage_spike.severity == "warning"
    yaml("preset: classic\non_critical: skip\nadvantage_spike:\n  severity: critical\n")
    assert load_settings().advantage_spike.severity == "critical"
    assert load_settings().on_critical == "skip"
    monkeypatch.setenv("RLWATCH_ON_CRITICAL", "halt")
    monkeypatch.setenv("RLWATCH_ADVANTAGE_SPIKE__SEVERITY", "warning")
    assert load_settings().on_critical == "halt"
    assert load_settings().advantage_spike.severity == "warning"
    settings = load_settings(on_critical="continue", advantage_spike={"severity": "critical"})
    assert (settings.on_critical, settings.advantage_spike.severity) == ("continue", "critical")


def test_nested_settings_merge_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source may set another key of the same detector; none wipes out the rest."""
    yaml("preset: classic\nadvantage_spike:\n  cooldown: 11\n")
    monkeypatch.setenv("RLWATCH_ADVANTAGE_SPIKE__REARM", "7")
    limits = load_settings(advantage_spike={"max_warnings": 3}).advantage_spike
    assert (limits.severity, limits.cooldown, limits.rearm, limits.max_warnings) == ("warning", 11, 7, 3)


@pytest.mark.parametrize("layer", ["preset", "yaml", "env", "keyword"])
def test_the_preset_may_come_from_any_layer(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keyword, environment and YAML name a preset to the same effect."""
    keywords: dict[str, Any] = {}
    if layer == "yaml":
        yaml("preset: dpo\n")
    elif layer == "env":
        monkeypatch.setenv("RLWATCH_PRESET", "dpo")
    else:
        keywords["preset"] = "dpo"
    settings = load_settings(**keywords)
    assert settings.preset == "dpo"
    assert settings.reward_drift.enabled is False
    assert settings.kl_explosion.enabled is True


def test_the_strongest_preset_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset in the environment replaces that of the file, settings and all."""
    yaml("preset: dpo\n")
    monkeypatch.setenv("RLWATCH_PRESET", "classic")
    settings = load_settings()
    assert settings.reward_drift.enabled is True
    assert settings.advantage_spike.severity == "warning"


@pytest.mark.parametrize("layer", ["yaml", "env", "keyword"])
def test_a_detector_is_switched_off_in_any_layer(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`detector: false` in YAML, `RLWATCH_DETECTOR=false`, `detector=False`."""
    keywords: dict[str, Any] = {}
    if layer == "yaml":
        yaml("kl_explosion: false\n")
    elif layer == "env":
        monkeypatch.setenv("RLWATCH_KL_EXPLOSION", "false")
    else:
        keywords["kl_explosion"] = False
    settings = load_settings(**keywords)
    assert settings.kl_explosion.enabled is False
    assert settings.entropy_collapse.enabled is True


@pytest.mark.parametrize("word", ["False", "0", "off"])
def test_the_environments_other_words_for_no(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What switches off any other flag in the environment switches off a detector, too."""
    monkeypatch.setenv("RLWATCH_CONSOLE", word)
    assert load_settings().console is False
    monkeypatch.setenv("RLWATCH_KL_EXPLOSION", word)
    assert load_settings().kl_explosion.enabled is False


@pytest.mark.parametrize("layer", ["yaml", "env", "keyword"])
def test_a_preset_that_switches_off_can_be_overridden(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`detector: true` in a stronger layer switches a detector of the preset on again."""
    keywords: dict[str, Any] = {"preset": "dpo"}
    if layer == "yaml":
        yaml("reward_drift: true\n")
    elif layer == "env":
        monkeypatch.setenv("RLWATCH_REWARD_DRIFT", "true")
    else:
        keywords["reward_drift"] = True
    assert load_settings(**keywords).reward_drift.enabled is True


def test_a_switch_keeps_the_weaker_layers_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switching a detector on or off does not throw away its limits from the file."""
    yaml("kl_explosion:\n  cooldown: 11\n")
    assert load_settings(kl_explosion=True).kl_explosion.cooldown == 11
    monkeypatch.setenv("RLWATCH_KL_EXPLOSION", "true")
    assert load_settings().kl_explosion.cooldown == 11


def test_limits_do_not_switch_on_what_the_file_switched_off() -> None:
    """`kl_explosion: false` in the file and a limit in a keyword: merged, it stays off."""
    yaml("kl_explosion: false\n")
    limits = load_settings(kl_explosion={"cooldown": 3}).kl_explosion
    assert (limits.enabled, limits.cooldown) == (False, 3)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"on_critcal": "halt"}, ["on_critcal", "on_critical"]),
        ({"entropy_colapse": False}, ["entropy_colapse", "entropy_collapse"]),
        ({"entropy_collapse": {"cooldwn": 1}}, ["entropy_collapse.cooldwn", "cooldown"]),
        ({"preset": "grop"}, ["grop", "grpo"]),
        ({"signal_map": {"enttropy": "x"}}, ["enttropy", "entropy"]),
        ({"entirely_unrelated": 1}, ["entirely_unrelated", "on_critical", "kl_explosion"]),
    ],
)
def test_a_misspelt_keyword(keywords: dict[str, Any], words: list[str]) -> None:
    """The error names the key and the right one."""
    with pytest.raises(ConfigError) as error:
        load_settings(**keywords)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("on_critcal: halt\n", ["on_critcal", "on_critical"]),
        ("entropy_colapse: false\n", ["entropy_colapse", "entropy_collapse"]),
        ("entropy_collapse:\n  cooldwn: 1\n", ["entropy_collapse.cooldwn", "cooldown"]),
        ("preset: grop\n", ["grop", "grpo"]),
    ],
)
def test_a_misspelt_key_in_the_file(text: str, words: list[str]) -> None:
    """The error names the key, the right one, and that it stands in the file."""
    yaml(text)
    with pytest.raises(ConfigError) as error:
        load_settings()
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("RLWATCH_ON_CRITCAL", "halt", ["RLWATCH_ON_CRITCAL", "RLWATCH_ON_CRITICAL"]),
        ("RLWATCH_ENTROPY_COLAPSE__COOLDOWN", "1", ["RLWATCH_ENTROPY_COLAPSE__COOLDOWN", "RLWATCH_ENTROPY_COLLAPSE"]),
        ("RLWATCH_ENTROPY_COLLAPSE__COOLDWN", "1", ["cooldwn", "cooldown"]),
        ("RLWATCH_PRESET", "grop", ["grop", "grpo"]),
    ],
)
def test_a_misspelt_variable(variable: str, value: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable and the right one."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as error:
        load_settings()
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"on_critical": "stop"}, ["on_critical", "'continue'", "'halt'", "'stop'"]),
        ({"on_critical": 3}, ["on_critical"]),
        ({"strict": "perhaps"}, ["strict", "perhaps"]),
        ({"coverage_after": 0}, ["coverage_after"]),
        ({"coverage_after": "many"}, ["coverage_after", "many"]),
        ({"entropy_collapse": 3}, ["entropy_collapse"]),
        ({"entropy_collapse": None}, ["entropy_collapse"]),
        ({"entropy_collapse": {"cooldown": -1}}, ["entropy_collapse.cooldown", "-1"]),
        ({"entropy_collapse": {"cooldown": float("nan")}}, ["entropy_collapse.cooldown"]),
        ({"signal_map": ["kl"]}, ["signal_map"]),
        ({"preset": ["grpo"]}, ["preset"]),
        ({"preset": 3}, ["preset"]),
    ],
)
def test_a_value_of_the_wrong_kind(keywords: dict[str, Any], words: list[str]) -> None:
    """It is a ConfigError that names the setting, never another exception."""
    with pytest.raises(ConfigError) as error:
        load_settings(**keywords)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RLWATCH_STRICT", "perhaps"),
        ("RLWATCH_COVERAGE_AFTER", "many"),
        ("RLWATCH_ENTROPY_COLLAPSE", "{not json"),
        ("RLWATCH_ENTROPY_COLLAPSE__COOLDOWN", "soon"),
        ("RLWATCH_SIGNAL_MAP", "kl=my/kl"),
    ],
)
def test_a_bad_variable(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a ConfigError that names the setting."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as error:
        load_settings()
    assert variable.removeprefix("RLWATCH_").split("__")[0].lower() in str(error.value).lower()


@pytest.mark.parametrize(
    "text", ["a: [1", "a: b: c", "\tx: 1", "- 1\n- 2\n", "just a word", "3", "{1: 2}", "!!python/none"]
)
def test_a_malformed_file(text: str) -> None:
    """Whatever the file holds, it is a ConfigError that names the file."""
    yaml(text)
    with pytest.raises(ConfigError, match=r"rlwatch\.yaml"):
        load_settings()


def test_a_file_that_is_no_text() -> None:
    """Bytes that are no UTF-8 are a ConfigError."""
    Path("rlwatch.yaml").write_bytes(b"\xff\xfe\x00preset")
    with pytest.raises(ConfigError):
        load_settings()


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n"])
def test_an_empty_file(text: str) -> None:
    """A file without settings changes nothing."""
    yaml(text)
    assert load_settings(report=True) == settings_class()()


def test_an_empty_variable_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """`RLWATCH_PRESET=` is the same as not setting it."""
    monkeypatch.setenv("RLWATCH_PRESET", "")
    assert load_settings().preset is None


def test_a_signal_map_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON in one variable."""
    monkeypatch.setenv("RLWATCH_SIGNAL_MAP", '{"kl": "my/kl"}')
    assert load_settings().signal_map == {"kl": "my/kl"}


def test_settings_are_frozen() -> None:
    """Nobody changes the settings of a run under way."""
    settings = load_settings()
    with pytest.raises(Exception, match="frozen"):
        settings.on_critical = "halt"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid(preset: str) -> None:
    """Each preset's settings exist."""
    assert load_settings(preset=preset).preset == preset


def test_every_setting_is_described() -> None:
    """`description` is what the documentation is made of."""
    assert all(field.description for field in settings_class().model_fields.values())


def test_the_watch_takes_them() -> None:
    """`Watch(preset, on_critical=..., detector={...})` is the same as `load_settings`."""
    watch = Watch("dpo", on_critical="halt", record=False, console=False, kl_explosion={"cooldown": 3})
    assert (watch.settings.preset, watch.settings.on_critical) == ("dpo", "halt")
    assert watch.settings.kl_explosion.cooldown == 3
    assert watch.coverage()["reward_drift"].state == "off"
    with pytest.raises(ConfigError, match="on_critical"):
        Watch(on_critcal="halt")


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"catalogue": "core", "reward_collapse": {"sigma": 5.0}}, "reward_collapse.sigma is set, but"),
        ({"preset": "rlvr", "reward_bimodality": {"cooldown": 9}}, "reward_bimodality.cooldown is set, but"),
    ],
)
def test_a_setting_of_a_detector_that_is_off(
    keywords: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named once with the way to switch the detector on; what only a preset sets is not."""
    Watch(record=False, console=False, **keywords)
    (message,) = caplog.messages
    assert words in message
    assert message.endswith(".enabled=True switches it on")
    caplog.clear()
    Watch("rlvr", record=False, console=False, catalogue="core")
    assert caplog.messages == []


def test_the_catalogue() -> None:
    """All are on; `core` leaves the eight, and any other that is switched on by itself."""
    full = Watch(record=False, console=False).coverage()
    core = Watch(record=False, console=False, catalogue="core", reward_collapse=True, reward_drift=False).coverage()
    assert {line.detector for line in full} == set(detector_classes())
    eight = {name for name, kind in detector_classes().items() if kind.core}
    assert {line.detector for line in core} == {*eight, "reward_collapse"}
    assert core["reward_drift"].state == "off"
