"""Whom to tell: how the setting is read, and that it shows no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlwatch import Watch
from rlwatch.config import ConfigError, load_settings
from rlwatch.sinks.notify.targets import names_of, read_target, read_targets

URL = "slack://TokenA123/TokenB123/TokenC123"


def test_a_url_and_its_level() -> None:
    """A level stands before the URL; without one, all is sent."""
    assert read_target(URL).level == "info"
    target = read_target(f"critical:{URL}")
    assert target.level == "critical"
    assert target.url.get_secret_value() == URL
    assert target.wants("critical")
    assert not target.wants("warning")
    assert read_target(f"warning:{URL}").wants("critical")


def test_several_urls() -> None:
    """A list, text with spaces, a JSON list: the same."""
    expected = [read_target("json://a"), read_target("critical:json://b")]
    assert read_targets("json://a critical:json://b") == expected
    assert read_targets('["json://a", "critical:json://b"]') == expected
    assert read_targets(["json://a", "critical:json://b"]) == expected


def test_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """`${NAME}` is taken from the environment, and one that is not set is named."""
    monkeypatch.setenv("HOOK", "json://host/secret")
    assert read_target("critical:${HOOK}").url.get_secret_value() == "json://host/secret"
    with pytest.raises(ValueError, match="NO_SUCH_VARIABLE"):
        read_target("${NO_SUCH_VARIABLE}")


@pytest.mark.parametrize("wrong", ["", "nonsense", "slack:/x", ["json://a", "json://a"], 7, [3], "severe:json://"])
def test_what_is_no_url(wrong: object) -> None:
    """It is a ConfigError, which does not show what was given."""
    with pytest.raises(ConfigError, match="notify") as error:
        load_settings(notify=wrong if wrong != "" else [""])
    assert "a'" not in str(error.value).replace("'notify'", "")


def test_no_secret_is_shown() -> None:
    """Neither the settings as text nor as JSON nor an error has a part of the URL."""
    settings = load_settings(notify=[URL, "critical:mailto://me:pa55word@gmail.com"])
    shown = (
        repr(settings) + str(settings.notify) + json.dumps(settings.model_dump(mode="json")) + str(settings.notify[1])
    )
    assert "Token" not in shown
    assert "pa55word" not in shown
    assert settings.model_dump(mode="json")["notify"] == ["slack://***", "critical:mailto://***"]


def test_the_environment(monkeypatch: pytest.MonkeyPatch, elsewhere: Path) -> None:
    """RLWATCH_NOTIFY, rlwatch.yaml and the keyword are read."""
    (elsewhere / "rlwatch.yaml").write_text("notify:\n  - json://yaml\n")
    assert load_settings().notify == [read_target("json://yaml")]
    monkeypatch.setenv("RLWATCH_NOTIFY", "json://a critical:json://b")
    assert load_settings().notify == read_targets(["json://a", "critical:json://b"])
    assert load_settings(notify=[]).notify == []


def test_names() -> None:
    """A target has the same name in any order, and no two have the same."""
    targets = [read_target(f"json://host/{number}") for number in range(300)]
    names = names_of(targets)
    assert len(set(names)) == len(names)
    assert names_of(targets[::-1])[::-1] == names
    assert all(name.startswith("json-") for name in names)


def test_other_ranks_are_silent(elsewhere: Path) -> None:
    """Only the main process has an outbox."""
    watch = Watch(notify=["json://127.0.0.1:9"], console=False, main_process=False)
    watch.log(step=0, loss=float("nan"))
    watch.close()
    assert list(elsewhere.iterdir()) == []
