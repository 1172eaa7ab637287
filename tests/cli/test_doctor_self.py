"""`rlwatch doctor-self`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlwatch.cli import main
from rlwatch.selfcheck import adapters, extras, places, report
from rlwatch.selfcheck.finding import Finding
from rlwatch.selfcheck.frameworks import FRAMEWORKS, Framework
from rlwatch.selfcheck.probe import probe

ROOT = Path(__file__).resolve().parents[2]


def looked(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[tuple[str, str], dict[str, Any]]]:
    """The exit code and the findings by part and name."""
    code = main(["doctor-self", "--format", "json", *args])
    data = json.loads(capsys.readouterr().out)
    assert data["code"] == code
    return code, {(one["part"], one["name"]): one for one in data["findings"]}


def test_what_is_installed_is_told(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Version, settings, a folder for runs, the playbook, every adapter: each has its line."""
    _, found = looked(capsys, "--quick")
    assert found["rlwatch", "version"]["state"] == "well"
    assert found["place", "playbook"]["state"] == "well"
    assert found["place", "rlwatch_runs (runs_dir)"]["state"] == "well"
    assert {name for part, name in found if part == "adapter"} == set(FRAMEWORKS)
    assert list(elsewhere.iterdir()) == []
    main(["doctor-self", "--quick"])
    text = capsys.readouterr().out
    assert "adapters\n" in text
    assert re.search(r"^verdict: ", text, re.MULTILINE)


def test_the_real_pytorch_is_probed() -> None:
    """In a process of its own: torch is imported and its seams are found."""
    pytest.importorskip("torch")
    (found,) = [one for one in adapters.look() if one.name == "pytorch"] if _only("pytorch") else []
    assert found.state in ("well", "doubtful"), found
    assert "seams are there" in found.says


def _only(name: str) -> bool:
    for other in set(FRAMEWORKS) - {name}:
        FRAMEWORKS.pop(other)
    return True


@pytest.fixture(autouse=True)
def _frameworks_as_they_were() -> Any:
    before = dict(FRAMEWORKS)
    yield
    FRAMEWORKS.clear()
    FRAMEWORKS.update(before)


@pytest.mark.parametrize("name", ["trl", "sb3"])
def test_the_real_frameworks_have_the_seams(name: str) -> None:
    """The versions that these tests run with lose nothing."""
    pytest.importorskip({"trl": "trl", "sb3": "stable_baselines3"}[name])
    assert probe(FRAMEWORKS[name]) == {"error": "", "lost": []}


def test_the_tested_versions_are_those_of_the_pins() -> None:
    """The table names what the tests' environments install."""
    pins = "\n".join(
        (ROOT / file).read_text()
        for file in ("constraints.txt", ".ci/verl-constraints.txt", ".ci/openrlhf", ".ci/openrlhf-constraints.txt")
    )
    for framework in FRAMEWORKS.values():
        name = re.escape(framework.package).replace(r"\-", "[-_]")
        assert re.search(rf"\b{name}=={re.escape(framework.tested)}\.", pins), framework.package


def test_seams_that_are_gone_are_named() -> None:
    """A missing method, a missing module and one of two alternatives; an import that fails is an error of its own."""
    there = "json:loads"
    one = Framework("json", "json", "1", "x", {"json:nothing": "sight", f"json:no | {there}": "a", "json.gone:x": "b"})
    assert probe(one) == {"error": "", "lost": ["json:nothing is missing: sight", "json.gone:x is missing: b"]}
    assert "No module named" in probe(Framework("no_such_adapter", "x", "1", "x"))["error"]


def test_a_framework_that_crashes_costs_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that kills the process, or hangs, is told, and the check goes on."""
    monkeypatch.setattr(adapters, "_version", lambda package: "1.0")
    monkeypatch.setitem(FRAMEWORKS, "pytorch", Framework("x", "x", "1.0", "x"))
    real = subprocess.run

    def crash(command: Sequence[str], **given: Any) -> Any:
        return real([sys.executable, "-c", "import os; print('noise'); os._exit(77)"], **given)

    def hang(command: Sequence[str], **given: Any) -> Any:
        raise subprocess.TimeoutExpired(command, 1.0)

    _only("pytorch")
    for stand_in, words in ((crash, "code 77"), (hang, "more than")):
        monkeypatch.setattr(subprocess, "run", stand_in)
        (found,) = adapters.look()
        assert (found.state, words in found.says) == ("broken", True)


def test_another_version_is_doubtful(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not tested is said to be so, without an import where there is no time for one."""
    _only("trl")
    monkeypatch.setattr(adapters, "_version", lambda package: "99.1")
    (found,) = adapters.look(quick=True)
    assert (found.state, found.says) == ("doubtful", "trl 99.1, tested with 1.16")
    monkeypatch.setattr(adapters, "_version", lambda package: None)
    (found,) = adapters.look()
    assert (found.state, found.fix) == ("absent", "pip install 'rlwatch[trl]'")


def test_extras_by_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """An extra of an extra counts; what is missing and what is too old are told apart."""

    class Home:
        requires = [
            "base", 'one>=2 ; extra == "a"', 'two ; extra == "b"', 'rlwatch[a] ; extra == "b"', 'x ; extra == "test"',
        ]  # fmt: skip

        class metadata:  # noqa: N801
            get_all = staticmethod(lambda name: ["a", "b", "test"])

    def version(name: str) -> str:
        if name not in there:
            raise extras.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(extras, "distribution", lambda name: Home)
    monkeypatch.setattr(extras, "version", version)
    there: dict[str, str] = {"one": "2.5"}
    assert [(one.name, one.state, one.says) for one in extras.look()] == [
        ("a", "well", "one 2.5"),
        ("b", "absent", "without two"),
    ]
    there.update(one="1.0", two="1")
    assert [one.state for one in extras.look()] == ["doubtful", "doubtful"]


def test_a_folder_that_cannot_be_written(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """3: rlwatch cannot record there. So it is with settings that are wrong."""
    (elsewhere / "file").write_text("")
    monkeypatch.setenv("RLWATCH_RUNS_DIR", str(elsewhere / "file"))
    code, found = looked(capsys, "--quick")
    assert code == 3
    assert found["place", f"{elsewhere / 'file'} (runs_dir)"]["state"] == "broken"
    monkeypatch.delenv("RLWATCH_RUNS_DIR")
    Path("rlwatch.yaml").write_text("on_critcal: halt\n")
    code, found = looked(capsys, "--quick")
    assert code == 3
    assert "did you mean 'on_critical'" in found["rlwatch", "settings"]["says"]


def test_a_broken_plug_in_is_found(tmp_path: Path) -> None:
    """A detector of another package that cannot be loaded is named with the reason and the fix."""
    info = tmp_path / "bad-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[rlwatch.detectors]\nbad = no_such_module:Bad\n")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', ROOT)}"}
    command = [sys.executable, "-m", "rlwatch", "doctor-self", "--quick"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert re.search(r"NO +rlwatch.detectors: bad +ModuleNotFoundError: No module named 'no_such_module'", done.stdout)
    assert "-> correct or uninstall no_such_module" in done.stdout


def test_the_code_is_that_of_the_worst() -> None:
    """What is absent is nobody's fault; what is vital and broken weighs most."""
    line = {state: Finding("a", "b", state, "") for state in ("well", "absent", "doubtful", "broken")}  # type: ignore[arg-type]
    assert report.code([line["well"], line["absent"]]) == 0
    assert report.code([line["well"], line["doubtful"]]) == report.code([line["broken"]]) == 1
    assert report.code([Finding("a", "b", "broken", "", vital=True), line["doubtful"]]) == 3


def test_the_playbook_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without pages, or with one too few."""
    monkeypatch.setattr(places.playbook, "names", list)
    assert (places._playbook().state, places._playbook().vital) == ("broken", True)
    monkeypatch.setattr(places.playbook, "names", lambda: ["index", "kl_explosion"])
    assert "loss_nonfinite" in places._playbook().says
