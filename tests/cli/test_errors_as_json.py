"""What a program reads from stdout: with `--format json` always strict JSON, also where there is no report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlwatch.cli import main
from rlwatch.cli.catalogue import Callback, commands, parameters
from rlwatch.telling import as_json

FORMATTED = {
    name: command
    for name, command in sorted(commands().items())
    if any("--format" in one.names for one in parameters(command))
}

GIVEN = {
    "bisect": ["--good", "a", "--bad", "b", "--cmd", "true", "--metric", "kl", "--cmp", "> 0"],
    "compare": ["no/a", "no/b"],
    "deliver": ["no/run", "--notify", "json://localhost:9"],
    "monitor": ["/dev/null/x", "--idle", "0.1"],
    "preflight env": ["NoSuchEnv-v0"],
    "preflight critic": ["no_module:nothing"],
    "preflight reward": ["no/file", "--column", "x"],
    "reward-drift": ["--scores-a", "no/a", "--scores-b", "no/b"],
    "reward-health": ["--run", "no/run"],
    "env-audit": ["no/run"],
}
"""Command lines that are right, and lead nowhere."""

TALKS = {"detectors", "presets", "check-determinism", "doctor-self"}
"""Commands without a path to be wrong."""


def strict(text: str) -> list[dict[str, object]]:
    """The objects on the lines of a text, or its one object; no NaN."""

    def refuse(token: str) -> None:
        raise AssertionError(token)

    try:
        return [json.loads(text, parse_constant=refuse)]
    except json.JSONDecodeError:
        return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def trouble(one: object) -> str:
    """What an object says went wrong."""
    assert isinstance(one, dict)
    return str(one.get("error") or one.get("not_evaluated") or "")


@pytest.mark.parametrize("name", [name for name in FORMATTED if name not in TALKS])
def test_an_error_is_json_too(name: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a path leads nowhere, stdout has an object that says so, in the words of stderr."""
    required = [one for one in parameters(FORMATTED[name]) if not one.is_option]
    given = GIVEN.get(name, ["no/such/place"] if required else [])
    code = main([*name.split(), *given, "--format", "json"])
    said = capsys.readouterr()
    assert code in (3, 64)
    objects = strict(said.out)
    assert objects
    assert trouble(objects[-1])
    assert "Traceback" not in said.err


@pytest.mark.parametrize("name", FORMATTED)
def test_a_wrong_command_line_is_json_too(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """64, and the sentence of stderr under `error`."""
    assert main([*name.split(), "--no-such-option", "--format", "json"]) == 64
    said = capsys.readouterr()
    (told,) = strict(said.out)
    assert f"rlwatch: {told['error']}\n" == said.err


def test_a_report_in_json_is_whole() -> None:
    """Nothing is cut, however many tensors or alerts there are; what is not finite is text, and so are odd keys."""
    many = {"tensors": [{"name": f"t{i}", "relative": float("nan")} for i in range(3000)], 5: "\x1b[31m\ud800"}
    (read,) = strict(as_json(many))
    assert len(read["tensors"]) == 3000  # type: ignore[arg-type]
    assert read["5"] == "\x1b[31m?"
    assert "\x1b" not in as_json(many)


def test_a_fault_of_ours_is_no_verdict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception that nobody expected ends with 70, not with 1, which means warnings."""
    monkeypatch.setattr("rlwatch.offline.scan.scan", lambda *_, **__: {}["gone"])
    assert main(["scan", "x.jsonl"]) == 70
    said = capsys.readouterr().err
    assert said.endswith("rlwatch: a fault of rlwatch (KeyError): nothing was judged, please report it\n")
    assert "Traceback" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_no_verdict(tmp_path: Path) -> None:
    """A report that cannot be written ends with 70 and a sentence."""
    (tmp_path / "run.jsonl").write_text('{"step": 1, "kl": 0.1}\n' * 3)
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "rlwatch", "scan", str(tmp_path / "run.jsonl")]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 70
    assert done.stderr.endswith("rlwatch: there is no space left to write the report to\n")
    assert "Traceback" not in done.stderr


def test_no_command_is_forgotten() -> None:
    """Those that make reports take `--format`."""
    known: dict[str, Callback] = commands()
    reports = {"scan", "doctor", "env-audit", "check-determinism", "bisect", "reward-health", "reward-drift"}
    reports |= {"compare", "diff-checkpoints", "deliver", "checkpoints", "runs", "monitor"}
    assert reports <= FORMATTED.keys() <= known.keys()
