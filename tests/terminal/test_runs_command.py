"""`rlwatch runs`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlwatch import Watch
from rlwatch.cli import main
from rlwatch.terminal import listing

Record = Callable[..., Path]


def listed(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, list[dict[str, object]]]:
    """The exit code and the objects."""
    code = main(["runs", *map(str, args), "--format", "json"])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_run_is_listed_with_its_verdict(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    """A clean, a broken and a living one: verdict, life, last step, counts; the code is that of the worst."""
    top = record("clean").parent
    record("broken", nan_at=30)
    record("living", rows=25, nan_at=20, close=False, preset="grpo")
    code, found = listed(capsys, top, "--sort", "name")
    assert code == 2
    assert [(Path(str(one["run"])).name, one["life"], one["verdict"], one["step"], one["rows"]) for one in found] == [
        ("broken", "ended", "critical", 39, 40),
        ("clean", "ended", "clean", 39, 40),
        ("living", "running", "critical", 24, 25),
    ]
    assert [one["criticals"] for one in found] == [1, 0, 1]
    assert found[2]["preset"] == "grpo"
    assert "loss_nonfinite" in str(found[0]["first"])
    assert "loss_nonfinite" in str(found[2]["first"])
    assert listed(capsys, top / "clean")[0] == 0


def test_a_resumed_run_keeps_its_past(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that had a critical before it was resumed, and none after, is not clean."""
    folder = record("twice", nan_at=30)
    record("twice")
    assert json.loads((folder / "run.json").read_text())["summary"]["alerts"] == {}
    code, found = listed(capsys, folder.parent)
    assert (code, found[0]["verdict"], found[0]["criticals"]) == (2, "critical", 1)


def test_a_run_that_no_detector_could_judge_is_not_clean(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Only names that no detector reads: `not evaluated`, exit code 3, as `rlwatch scan` says."""
    with Watch(console=False, stall=False, runs_dir=tmp_path, run_id="blind") as watch:
        for step in range(40):
            watch.log(step=step, of_no_one=0.5)
    code, found = listed(capsys, tmp_path)
    assert (code, found[0]["verdict"], found[0]["rows"]) == (3, "not evaluated", 40)
    assert main(["watch", str(tmp_path / "blind"), "--once"]) == 3
    assert "NOT EVALUATED" in capsys.readouterr().out


def test_the_orders(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest first by default; the worst first, and the longest, when asked."""
    for name, rows, nan_at in (("b", 10, None), ("a", 30, 20), ("c", 20, None)):
        top = record(name, rows=rows, nan_at=nan_at).parent
    names = {}
    for order in ("newest", "verdict", "name", "rows"):
        names[order] = [Path(str(one["run"])).name for one in listed(capsys, top, "--sort", order)[1]]
    assert names == {
        "newest": ["c", "a", "b"], "verdict": ["a", "c", "b"], "name": ["a", "b", "c"], "rows": ["a", "c", "b"],
    }  # fmt: skip


def test_the_table_names_each_run(
    record: Record, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line a run and a count at the end, without control codes in a pipe, whatever the width."""
    top = record("clean").parent
    record("broken", nan_at=30)
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["runs", str(top)]) == 2
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert text.splitlines()[0].split()[:2] == ["VERDICT", "LIFE"]
    assert sorted(line.split()[0] for line in text.splitlines()[1:3]) == ["clean", "critical"]
    assert text.splitlines()[-1] == "2 runs: 1 critical, 1 clean; 0 running"


def test_a_thousand_runs_are_not_read_whole(
    record: Record, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of runs that were closed neither steps nor alerts are opened; of a living one only the ends."""
    top = record("r0000", nan_at=30).parent
    for index in range(1, 300):
        (top / f"r{index:04}").mkdir()
        shutil.copy(top / "r0000" / "run.json", top / f"r{index:04}" / "run.json")
    record("living", close=False)
    with (top / "living" / "steps.jsonl").open("a") as file:
        file.write(("{" + " " * 1000 + "}\n") * 5000 + '{"step": 77, "row": 77}\n')
    opened: list[Path] = []
    real = listing.Tail

    def tail(path: Path, last: int | None = None) -> object:
        opened.append(path)
        assert last is not None
        assert last <= 2**20
        return real(path, last)

    monkeypatch.setattr(listing, "Tail", tail)
    code, found = listed(capsys, top)
    assert (code, len(found)) == (2, 301)
    assert {path.parent.name for path in opened} == {"living"}
    assert next(one["step"] for one in found if one["life"] == "running") == 77


def test_what_cannot_be_read_is_listed_as_such(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    """A torn or foreign `run.json` costs its own line, and the code 3, not the list."""
    top = record("good").parent
    for name, text in (("torn", "{"), ("foreign", "[]")):
        (top / name).mkdir()
        (top / name / "run.json").write_text(text)
    assert main(["runs", str(top)]) == 3
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "3 runs: 2 unreadable, 1 clean; 0 running"
    assert said.err.count("\n") == 2
    assert "is no JSON" in said.err


@pytest.mark.parametrize(
    ("name", "sentence"), [("none", "there is no such"), ("file", "is a file"), ("empty", "no run")]
)
def test_no_runs_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, sentence: str) -> None:
    """3, and what was expected there."""
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    assert main(["runs", str(tmp_path / name)]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err
    assert said.err.count("\n") == 1


def test_a_run_that_went_back_and_stayed_well_has_recovered(
    record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list, the live view and the doctor say the same of it; a critical alert after that is critical again."""
    folder = record("back", nan_at=30)
    last = json.loads((folder / "alerts.jsonl").read_text().splitlines()[-1])
    event = {"event": "rollback", "step": 30, "to_step": 20, "time": last["time"] + 1, "remedies": ["rate x0.2"]}
    (folder / "events.jsonl").write_text(json.dumps(event) + "\n")
    info = json.loads((folder / "run.json").read_text())
    info["summary"]["events"] = [event]
    (folder / "run.json").write_text(json.dumps(info))
    code, found = listed(capsys, folder.parent)
    assert (code, found[0]["verdict"]) == (1, "recovered")
    assert main(["watch", str(folder), "--once"]) == 1
    assert "RECOVERED" in capsys.readouterr().out
    assert main(["doctor", str(folder)]) == 1
    said = capsys.readouterr().out
    assert "ADJUST" in said.splitlines()[0]
    assert "Keep what it changed (rate x0.2)" in said
    assert "Stop the run" not in said
    with (folder / "alerts.jsonl").open("a") as file:
        file.write(json.dumps({**last, "severity": "critical", "step": 35, "time": last["time"] + 2}) + "\n")
    assert listed(capsys, folder.parent)[0] == 2
