"""Detectors of the user's: passed to a Watch, offered by a plug-in, held to the contract."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field

from rlwatch import ConfigError, Detector, Observation, Watch
from rlwatch.cli import main
from rlwatch.config import load_settings
from rlwatch.detectors import roster as rosters
from rlwatch.detectors.base import DetectorSettings, Finding, Link, critical, warning
from rlwatch.streaming.recent import Recent

DOCS = Path(__file__).resolve().parents[1] / "docs" / "own_detectors.md"


class TooHigh(Detector):
    """Speaks while the median of three values of `my/metric`, or of kl, is above a limit."""

    id: ClassVar[str] = "too_high"
    link: ClassVar[Link] = Link.ADVANTAGE
    needs: ClassVar[tuple[str, ...]] = ("my/metric", "kl")
    warmup: ClassVar[int] = 3
    state: ClassVar[tuple[str, ...]] = ("_last",)

    class Settings(DetectorSettings):
        """One limit."""

        limit: float = Field(1.0, gt=0, description="above it, it speaks")

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self._last = Recent(3)

    def check(self, obs: Observation) -> Finding | None:
        """The level of three rows."""
        self._last.push(obs.signals.get("my/metric", obs.signals.get("kl", 0.0)))
        level = self._last.median_of(3)
        if level is None or level <= self.settings.limit:
            return None
        return (
            critical("far too high", level=level) if level > 10 * self.settings.limit else warning("high", level=level)
        )


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file but the test's own."""
    monkeypatch.chdir(tmp_path)


def watch(**settings: Any) -> Watch:
    """A silent Watch that raises on its own errors."""
    return Watch(record=False, console=False, **{"strict": True, **settings})


def feed(one: Watch, *values: float) -> list[tuple[int, str, str]]:
    """Step, detector and severity of each alert."""
    alerts = [alert for x in values for alert in one.log({"my/metric": x}).alerts]
    return [(alert.step, alert.detector, alert.severity.value) for alert in alerts]


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs entry points, name -> what loading gives or raises."""

    def install(**points: Any) -> None:
        class Point(EntryPoint):
            def load(self) -> Any:
                found = points[self.name]
                if isinstance(found, Exception):
                    raise found
                return found

        listed = EntryPoints(Point(name, f"pkg.{name}:Kind", rosters.GROUP) for name in points)
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: listed if group == rosters.GROUP else ())
        rosters.installed.cache_clear()

    yield install
    monkeypatch.undo()
    rosters.installed.cache_clear()


def test_a_class_is_configured_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By keyword, environment and YAML under its id; its metric is a signal; nothing else is needed."""
    assert feed(watch(detectors=[TooHigh]), 2, 2, 2, 2, 20, 20) == [
        (2, "too_high", "warning"),
        (5, "too_high", "critical"),
    ]
    assert feed(watch(detectors=[TooHigh], too_high={"limit": 3}), 2, 2, 2, 2) == []
    monkeypatch.setenv("RLWATCH_TOO_HIGH__LIMIT", "4")
    assert feed(watch(detectors=[TooHigh]), 5, 5, 5) == [(2, "too_high", "warning")]
    assert feed(watch(detectors=[TooHigh]), 4, 4, 4) == []
    monkeypatch.delenv("RLWATCH_TOO_HIGH__LIMIT")
    (tmp_path / "rlwatch.yaml").write_text("too_high:\n  limit: 30\n  severity: warning\n")
    assert feed(watch(detectors=[TooHigh]), *[400.0] * 5) == [(2, "too_high", "warning")]


def test_an_instance_has_the_settings_it_was_made_with() -> None:
    """It can be switched off elsewhere, and not configured twice; a Watch works on a copy of it."""
    mine = TooHigh({"limit": 3})
    assert feed(watch(detectors=[mine]), 2, 2, 2, 5, 5) == [(4, "too_high", "warning")]
    assert feed(watch(detectors=[mine]), 5, 5) == [], "the first run's rows are not the second's"
    assert watch(detectors=[mine]).settings.too_high.limit == 3
    off = watch(detectors=[mine], too_high=False)
    assert off.coverage()["too_high"].state == "off"
    assert off.settings.too_high.limit == 3
    with pytest.raises(ConfigError, match="ready-made"):
        watch(detectors=[mine], too_high={"limit": 4})


def test_alerts_carry_the_detectors_own_links() -> None:
    """No page of the playbook is invented; a detector may give its own link and remedy."""

    class Linked(TooHigh):
        id: ClassVar[str] = "linked"
        playbook_url: ClassVar[str] = "https://example.org/linked"
        remedy: ClassVar[str] = "Turn it down."

    one = watch(detectors=[TooHigh, Linked])
    for _ in range(3):
        alerts = {alert.detector: alert for alert in one.log({"my/metric": 5.0}).alerts}
    assert (alerts["too_high"].playbook, alerts["too_high"].remedy) == ("", "")
    assert (alerts["linked"].playbook, alerts["linked"].remedy) == ("https://example.org/linked", "Turn it down.")


def test_it_stands_in_the_order_of_the_loop_with_coverage() -> None:
    """Among the detectors of its link; starved without its signals, named with the metric to log."""
    one = watch(detectors=[TooHigh])
    for _ in range(12):
        one.log(loss=0.1)
    lines = list(one.coverage())
    place = [line.detector for line in lines].index("too_high")
    assert lines[place - 1].link in ("reward", "advantage")
    assert lines[place + 1].link not in ("reward", "data")
    assert (lines[place].state, lines[place].fix) == ("starved", "log my/metric (or kl)")


def test_one_made_from_a_detector_outside_the_core_is_on() -> None:
    """Whoever passes a detector wants it on, whatever the catalogue."""
    from rlwatch.detectors.registry import detector_classes

    mine = type("Mine", (detector_classes()["clip_fraction"],), {"id": "mine"})
    assert not mine.core
    one = watch(detectors=[mine])
    for _ in range(12):
        one.log(clip_fraction=0.1)
    assert one.coverage()["mine"].state == "armed"
    assert watch(detectors=[mine], mine=False).coverage()["mine"].state == "off"


def test_its_state_rides_in_the_checkpoint() -> None:
    """A resumed Watch goes on where the first one was."""
    one, other = watch(detectors=[TooHigh]), watch(detectors=[TooHigh()])
    feed(one, 2, 2)
    other.load_state_dict(json.loads(json.dumps(one.state_dict(), allow_nan=False)))
    assert feed(other, 2) == [(2, "too_high", "warning")]


def test_one_that_raises_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    """Named once, left out after the third time; the others go on, and coverage says so."""

    class Broken(TooHigh):
        id: ClassVar[str] = "broken"

        def check(self, obs: Observation) -> Finding | None:
            raise RuntimeError("my own fault")

    one = watch(detectors=[Broken, TooHigh], strict=False)
    assert feed(one, 2, 2, 2, 2) == [(2, "too_high", "warning")]
    assert one.coverage()["broken"].state == "failed"
    assert caplog.text.count("my own fault") == 1


def made(**fields: Any) -> type[Detector]:
    """A subclass of TooHigh with other fields."""
    return type("Mine", (TooHigh,), fields)


class NoCheck(Detector):
    """Has all but `check`."""

    id, link, needs = "no_check", Link.REWARD, ("kl",)


def _no_defaults(self: Any, settings: Any, more: int) -> None: ...


@pytest.mark.parametrize(
    ("one", "sentence"),
    [
        (3, "takes subclasses of rlwatch.Detector"),
        (dict, "takes subclasses of rlwatch.Detector"),
        (made(id="Too-High"), "`id` must be lower-case words"),
        (made(id="too__high"), "`id` must be lower-case words"),
        (made(id=None), "`id` must be lower-case words"),
        (made(id="kl_explosion"), "is a built-in detector's"),
        (made(id="runs_dir"), "is a setting's name"),
        (made(link="reward"), "`link` must be a Link"),
        (made(needs="kl"), "`needs` must be a tuple of names, as in ('kl',); it is 'kl'"),
        (made(needs=()), "`needs` is empty"),
        (made(needs=("train/approx_kl",)), "logged as the signal 'approx_kl'"),
        (made(warmup=0), "`warmup`"),
        (made(state=["_last"]), "`state` must be a tuple"),
        (made(state=("_lost",)), "has no attribute '_lost'"),
        (made(state=("_set",), _set={1}), "not JSON serializable"),
        (made(Settings=dict), "`Settings` must be a subclass of DetectorSettings"),
        (made(__init__=_no_defaults), "without arguments"),
        (NoCheck, "it does not implement check"),
    ],
)
def test_the_contract_is_checked(one: Any, sentence: str) -> None:
    """A breach is a ConfigError that names the class and says what to change."""
    with pytest.raises(ConfigError) as caught:
        Watch(detectors=[one])
    assert sentence in str(caught.value)
    if isinstance(one, type) and issubclass(one, Detector):
        assert str(caught.value).startswith(f"{one.__qualname__}: ")


def test_two_of_one_id_are_an_error() -> None:
    """The second needs an id of its own."""
    with pytest.raises(ConfigError, match="two with the id 'too_high'"):
        Watch(detectors=[TooHigh, TooHigh()])


def test_settings_of_own_detectors_are_checked() -> None:
    """A misspelt setting of it is named with the right one."""
    with pytest.raises(ConfigError, match=r"no setting 'too_high.limt', did you mean 'limit'"):
        load_settings(detectors=[TooHigh], too_high={"limt": 3})
    with pytest.raises(ConfigError, match="no setting 'too_high'"):
        load_settings(too_high={"limit": 3})


def test_a_plug_in_is_found(plugins: Callable[..., None], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """In every Watch, in `rlwatch detectors` and in a scan, with its settings under its id."""
    plugins(too_high=TooHigh)
    assert feed(watch(), 2, 2, 2) == [(2, "too_high", "warning")]
    assert feed(watch(too_high={"limit": 3}), 2, 2, 2) == []
    assert watch(too_high=False).coverage()["too_high"].state == "off"
    assert main(["detectors"]) == 0
    assert re.search(r"^too_high +advantage +my/metric or kl$", capsys.readouterr().out, re.MULTILINE)
    log = tmp_path / "run.jsonl"
    log.write_text("".join(json.dumps({"step": i, "my/metric": 5.0}) + "\n" for i in range(20)))
    assert main(["scan", str(log)]) == 1


def test_a_broken_plug_in_is_named_and_left_out(plugins: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    """Once in the log, as failed in the coverage; the others and the built-in ones go on; nothing raises."""
    double = made(id="too_high")
    plugins(gone=ImportError("no module named torch9"), odd=made(id="Odd"), zzz_double=double, too_high=TooHigh)
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        one, _ = watch(), watch()
    assert feed(one, 2, 2, 2) == [(2, "too_high", "warning")]
    assert caplog.text.count("the plug-in gone (pkg.gone:Kind) is left out: ImportError: no module named torch9") == 1
    lines = {line.detector: line for line in one.coverage() if line.state == "failed"}
    assert set(lines) == {"gone", "odd", "zzz_double"}
    assert "`id` must be lower-case words" in lines["odd"].reason
    assert "another plug-in has the id" in lines["zzz_double"].reason
    assert one.failures == {}
    with pytest.raises(
        ConfigError, match="setting 'gone': the plug-in is left out: ImportError: no module named torch9"
    ):
        load_settings(gone={"limit": 3})


def test_a_passed_class_stands_in_for_a_plug_in(plugins: Callable[..., None]) -> None:
    """So that the author can try a new version, or anyone a configured one."""
    plugins(too_high=TooHigh)
    newer = made(Settings=type("Settings", (TooHigh.Settings,), {"__annotations__": {"limit": float}, "limit": 100.0}))
    assert feed(watch(detectors=[newer]), 2, 2, 2) == []
    assert feed(watch(detectors=[TooHigh({"limit": 50})]), 2, 2, 2) == []


def test_the_worked_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The page's blocks run as they stand, and print what the page says; the contract's table names what is checked."""
    text = DOCS.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    scope: dict[str, Any] = {"__name__": "example"}
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), scope)
    scope["watch"].close()
    expected = re.findall(r"^# (\d.*)$", blocks[-1], re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == expected != []
    assert rosters.check(scope["CeilingHits"]).id == "ceiling_hits"
    for name in ("id", "link", "needs", "warmup", "state", "Settings", "check"):
        assert f"| `{name}`" in text
