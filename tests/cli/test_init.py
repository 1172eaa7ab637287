"""`rlwatch init`: the file it writes is whole, loads, and says what the settings are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import Field

from rlwatch.cli import main
from rlwatch.config import ConfigError, WatchSettings, load_settings, settings_class
from rlwatch.detectors import roster
from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link
from rlwatch.observation import Observation
from rlwatch.presets import CATALOGUE
from rlwatch.settings_file import settings_file


class Plugged(Detector):
    """A detector as another package may bring it."""

    id = "plugged"
    link = Link.REWARD
    needs = ("reward_mean",)

    class Settings(DetectorSettings):
        """One limit."""

        far: float = Field(2.5, gt=0, description="how far")

    def check(self, obs: Observation) -> Finding | None:
        """Silent."""
        return None


SWITCHED_OFF = re.compile(r"^( *)#(?=\w+:)", re.MULTILINE)


def whole(text: str) -> str:
    """The file with every setting switched on."""
    return SWITCHED_OFF.sub(r"\1", text)


def test_as_it_is_the_file_changes_nothing(elsewhere: Path) -> None:
    """With every setting commented out it loads as no file at all."""
    before = load_settings()
    assert main(["init"]) == 0
    assert yaml.safe_load(Path("rlwatch.yaml").read_text()) is None
    assert load_settings() == before


@pytest.mark.parametrize("preset", [None, *CATALOGUE])
def test_with_every_line_switched_on_it_loads_back_identical(elsewhere: Path, preset: str | None) -> None:
    """The defaults written are those of the models, or of the preset: none is left out, none is another."""
    Path("rlwatch.yaml").write_text(whole(settings_file({"preset": preset})))
    read = load_settings()
    found = yaml.safe_load(Path("rlwatch.yaml").read_text())
    assert set(found) == set(settings_class().model_fields)
    for name, inner in found.items():
        if name not in WatchSettings.model_fields:
            assert set(inner) == set(type(getattr(read, name)).model_fields), name
    Path("rlwatch.yaml").unlink()
    assert read == load_settings(preset=preset)


def test_each_setting_says_what_it_is(elsewhere: Path) -> None:
    """Above each setting of its own a comment stands; a limit, a choice and a null are in words."""
    lines = settings_file().splitlines()
    for number, line in enumerate(lines):
        if re.match(r" *#(?!(enabled|severity|cooldown|rearm|max_warnings):)\w+:", line):
            assert lines[number - 1].lstrip().startswith("# "), line
    text = " ".join(settings_file().replace("\n", " ").split())
    assert "what a critical alert does" in text
    assert "continue, skip, rollback or halt" in text
    assert max(map(len, lines)) <= 120


def test_what_is_asked_for_holds(elsewhere: Path) -> None:
    """A preset and an action are set in the file, not commented out."""
    assert main(["init", "--preset", "rlvr", "--on-critical", "halt"]) == 0
    read = load_settings()
    assert (read.preset, read.on_critical, read.reward_bimodality.enabled) == ("rlvr", "halt", False)


def test_a_changed_line_holds_and_a_misspelt_one_is_named(elsewhere: Path) -> None:
    """Taking the # away is all that is needed; a key that is wrong is told with the right one."""
    before, mark, block = settings_file().partition("#kl_explosion:")
    assert mark
    text = before + mark[1:] + block.replace("  #critical_level: 0.6", "  critical_level: 0.9", 1)
    Path("rlwatch.yaml").write_text(text)
    assert load_settings().kl_explosion.critical_level == 0.9
    Path("rlwatch.yaml").write_text(text.replace("  critical_level", "  critical_levle"))
    with pytest.raises(ConfigError, match="did you mean 'critical_level'"):
        load_settings()


def test_a_file_that_is_there_stays(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --force nothing is overwritten."""
    Path("rlwatch.yaml").write_text("on_critical: halt\n")
    assert main(["init"]) == 3
    assert capsys.readouterr().err == "rlwatch: rlwatch.yaml is there already: --force overwrites it\n"
    assert Path("rlwatch.yaml").read_text() == "on_critical: halt\n"
    assert main(["init", "--force"]) == 0
    assert "on_critical: continue" in Path("rlwatch.yaml").read_text()


def test_printed_or_somewhere_else(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """- prints it; a folder takes it; a folder that is not there is one sentence."""
    assert main(["init", "-"]) == 0
    assert capsys.readouterr().out == settings_file()
    assert not Path("rlwatch.yaml").exists()
    Path("deep").mkdir()
    assert main(["init", "deep"]) == 0
    assert Path("deep/rlwatch.yaml").read_text() == settings_file()
    capsys.readouterr()
    assert main(["init", "nowhere"]) == 3
    assert capsys.readouterr().err == "rlwatch: nowhere: there is no such folder\n"
    assert main(["init", "--preset", "pppo", "--force"]) == 64
    assert "did you mean 'ppo'" in capsys.readouterr().err


def test_a_plug_in_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed detector's settings stand among the others."""
    monkeypatch.setattr(roster, "installed", lambda *_: ({Plugged.id: Plugged}, {}))
    assert "#plugged:\n  # how far (number > 0)\n  #far: 2.5\n" in settings_file()
