"""Sinks of the user's own: passed as objects, named by an entry point, put off the training thread."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rlwatch import Watch
from rlwatch.alert import Alert, Verdict
from rlwatch.config import ConfigError, load_settings
from rlwatch.observation import Observation
from rlwatch.sinks import BaseSink, Queued


class Diary(BaseSink):
    """Keeps what it hears, and on which thread."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.threads: set[threading.Thread] = set()

    def start(self, info: Mapping[str, Any]) -> None:
        self._note("start")

    def step(self, obs: Observation, verdict: Verdict) -> None:
        self._note(f"step {obs.step}")

    def alert(self, alert: Alert) -> None:
        self._note(alert.detector)

    def event(self, event: Mapping[str, Any]) -> None:
        self._note(str(event["event"]))

    def close(self, summary: Mapping[str, Any]) -> None:
        self._note(f"close after {summary['rows']}")

    def _note(self, what: str) -> None:
        self.heard.append(what)
        self.threads.add(threading.current_thread())


class OnlyAlerts:
    """No subclass, and deaf to all but alerts."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def alert(self, alert: Alert) -> None:
        self.heard.append(alert.detector)


EXPECTED = ["start", "step 0", "step 1", "loss_nonfinite", "halt", "close after 2"]


def short_run(*sinks: Any, strict: bool = True) -> Watch:
    """Two rows, a NaN, an event."""
    watch = Watch(record=False, console=False, strict=strict, sinks=list(sinks))
    watch.log(step=0, loss=0.1)
    watch.log(step=1, loss=float("nan"))
    watch.announce("halt", 1, "halting")
    watch.close()
    return watch


def test_an_object() -> None:
    """It hears of all, on the training thread."""
    diary, deaf = Diary(), OnlyAlerts()
    short_run(diary, deaf)
    assert diary.heard == EXPECTED
    assert diary.threads == {threading.current_thread()}
    assert deaf.heard == ["loss_nonfinite"]


def test_off_the_training_thread() -> None:
    """`Queued` gives the same calls in the same order to another thread."""
    diary = Diary()
    short_run(Queued(diary))
    assert diary.heard == EXPECTED
    assert threading.current_thread() not in diary.threads
    assert len(diary.threads) == 1


def test_one_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    """The run goes on and ends; what was not handed over is counted out."""

    class Hanging(Diary):
        gate = threading.Event()

        def step(self, obs: Observation, verdict: Verdict) -> None:
            assert self.gate.wait(60)
            super().step(obs, verdict)

    said: list[str] = []
    hanging = Hanging()
    sink = Queued(hanging, limit=2, wait=0.01, on_trouble=said.append)
    watch = Watch(record=False, console=False, sinks=[sink])
    for step in range(400):
        watch.log(step=step, loss=0.1)
    watch.close()
    assert watch.rows == 400
    assert len(said) == 1
    assert said[0].startswith("Hanging: ")
    hanging.gate.set()


def test_one_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """What it raises is said once, and after three times it is left alone; the others hear on."""

    class Failing(Diary):
        def step(self, obs: Observation, verdict: Verdict) -> None:
            raise RuntimeError("no such table")

    failing, diary = Failing(), Diary()
    watch = Watch(record=False, console=False, sinks=[failing, diary])
    for step in range(10):
        watch.log(step=step, loss=0.1)
    watch.close()
    assert caplog.text.count("no such table") == 1
    assert diary.heard[-1] == "close after 10"
    assert "Failing failed 3 times" in caplog.text


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that offers the sink `diary`."""
    info = tmp_path / "diary-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: diary\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[rlwatch.sinks]\ndiary = offered_diary:Offered\nbroken = offered_diary:Nothing\n"
    )
    (tmp_path / "offered_diary.py").write_text(
        "from rlwatch.sinks import BaseSink\nheard = []\n"
        "class Offered(BaseSink):\n    def alert(self, alert):\n        heard.append(alert.detector)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()


def test_an_entry_point(offered: None, caplog: pytest.LogCaptureFixture) -> None:
    """It is opened by its name; one that cannot be loaded is complained of."""
    short_run("diary", "broken", strict=False)
    import offered_diary

    assert offered_diary.heard == ["loss_nonfinite"]
    assert "the sink 'broken' is left out" in caplog.text


def test_a_misspelt_name(offered: None) -> None:
    """What there is, is listed."""
    with pytest.raises(ConfigError, match=r"no sink .diry.; there are auto, .*broken, diary"):
        load_settings(sinks=["diry"])
