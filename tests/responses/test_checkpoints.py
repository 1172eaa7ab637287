"""Tags of checkpoints on disk, and the command that lists them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlwatch import Watch
from rlwatch.cli import main
from rlwatch.responses.checkpoints import FILE, CheckpointsError, read_tags

pytestmark = pytest.mark.usefixtures("elsewhere")

OUT = Path("out")


def save(watch: Watch, step: int) -> None:
    """What a trainer leaves."""
    path = OUT / f"checkpoint-{step}"
    path.mkdir(parents=True)
    watch.saved(path)


def run(watch: Watch, steps: range, every: int = 25, bad: range = range(0)) -> None:
    """A run that saves, and whose KL explodes in `bad`."""
    for step in steps:
        watch.log(step=step, loss=1.0, kl=3.0 if step in bad else 0.01, entropy=1.0)
        if step and step % every == 0:
            save(watch, step)


def tags() -> dict[int, str]:
    return {tag.step: tag.health for tag in read_tags(OUT)}


def test_each_is_tagged_by_what_came_after_it() -> None:
    """Saved long before the explosion: healthy; between onset and end: poisoned; just before the end: not proven."""
    with Watch(record=False, console=False, strict=True) as watch:
        run(watch, range(161), bad=range(98, 104))
    assert tags() == {25: "healthy", 50: "healthy", 75: "healthy", 100: "poisoned", 125: "healthy", 150: "suspect"}
    by_step = {tag.step: tag for tag in read_tags(OUT)}
    assert by_step[100].reason == "kl_explosion (critical) at step 100, traced back 20 rows"
    assert by_step[150].reason.startswith("not proven yet: 30 rows")
    assert by_step[25].reason == ""


def test_the_file_is_current_while_the_run_goes_on() -> None:
    """It is strict JSON at any moment, and follows what is found out."""
    watch = Watch(record=False, console=False, strict=True)
    run(watch, range(30))
    run(watch, range(30, 80), every=1000)
    assert watch._tags is not None
    for folder in watch._tags._folders.values():
        folder.wait()
    text = json.loads((OUT / FILE).read_text())
    assert text == {"format": 1, "checkpoints": {"checkpoint-25": {"step": 25, "health": "healthy", "reason": ""}}}
    watch.close()


def test_deleted_ones_are_forgotten_and_earlier_ones_kept() -> None:
    """A trainer rotates; a resumed process adds to what the one before it found out."""
    with Watch(record=False, console=False, strict=True) as watch:
        run(watch, range(120))
    (OUT / "checkpoint-50").rmdir()
    with Watch(record=False, console=False, strict=True) as watch:
        run(watch, range(120, 130))
    assert tags() == {25: "healthy", 75: "healthy", 100: "suspect", 125: "suspect"}


def test_a_broken_file_is_written_anew(caplog: pytest.LogCaptureFixture) -> None:
    """Reading says so in one sentence; the run goes on and replaces it."""
    OUT.mkdir()
    (OUT / FILE).write_text("{")
    with pytest.raises(CheckpointsError, match="not a file of tags"):
        read_tags(OUT)
    with Watch(record=False, console=False) as watch:
        run(watch, range(30))
    assert tags() == {25: "suspect"}
    assert "written anew" in caplog.text


def test_a_folder_that_cannot_be_written_costs_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    """The path does not exist: nothing raises."""
    with Watch(record=False, console=False) as watch:
        watch.log(loss=1.0)
        watch.saved("no/such/folder/checkpoint-1")
    assert "are not tagged" in caplog.text
    with Watch(record=False, console=False) as watch:
        watch.saved(object())  # type: ignore[arg-type]


def test_other_ranks_write_nothing() -> None:
    """The main process does."""
    with Watch(record=False, console=False, main_process=False) as watch:
        run(watch, range(30))
    assert not (OUT / FILE).exists()


def listing(capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    code = main(["checkpoints", "out", *more])
    return code, *capsys.readouterr()


def test_the_command_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    """By step, with the reason, the untagged too, and the one to resume from."""
    with Watch(record=False, console=False, strict=True) as watch:
        run(watch, range(111), bad=range(98, 104))
    (OUT / "checkpoint-7").mkdir()
    (OUT / "logs").mkdir()
    code, out, _ = listing(capsys)
    lines = out.splitlines()
    assert code == 0
    assert [line.split()[:4] for line in lines[:-1]] == [
        ["checkpoint-7", "step", "7", "untagged"],
        ["checkpoint-25", "step", "25", "healthy"],
        ["checkpoint-50", "step", "50", "healthy"],
        ["checkpoint-75", "step", "75", "healthy"],
        ["checkpoint-100", "step", "100", "poisoned"],
    ]
    assert lines[-1] == "resume from out/checkpoint-75"
    code, out, _ = listing(capsys, "--format", "json")
    report = json.loads(out)
    assert report["resume_from"] == "out/checkpoint-75"
    assert report["checkpoints"][-1]["reason"].startswith("kl_explosion (critical)")


def test_the_command_says_when_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """1 where none is healthy, 3 where there is nothing to list."""
    assert listing(capsys) == (3, "", "rlwatch: out cannot be read: No such file or directory\n")
    OUT.mkdir()
    assert listing(capsys) == (3, "", "rlwatch: out holds no checkpoint\n")
    (OUT / "checkpoint-5").mkdir()
    assert listing(capsys)[:2] == (1, "checkpoint-5  step 5         untagged\nnone is proven healthy\n")
    (OUT / FILE).write_text("[]")
    code, _, err = listing(capsys)
    assert code == 3
    assert "not a file of tags" in err
