"""The picture of a run, from the run folder alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from rlwatch import Watch
from rlwatch.report.picture import PictureError, draw_run, read_run

pytest.importorskip("matplotlib")

SVG = "{http://www.w3.org/2000/svg}"


def recorded(folder: Path, steps: int = 60, back: bool = True) -> Path:
    """The folder of a run whose loss is NaN at step 40 and that, with `back`, says that it went back from 41 to 25."""
    with Watch(runs_dir=folder, run_id="run", console=False) as watch:
        for step in range(1, steps + 1):
            watch.log(step=step, loss=float("nan") if step == 40 else 0.1, reward_mean=step / 60, entropy=0.5, kl=0.01)
            if step == 41 and back:
                remedies = ["learning rate 0.001 -> 0.0002"]
                watch.announce("rollback", 41, "went back", to_step=25, remedies=remedies)
    return folder / "run"


def texts(svg: Path) -> str:
    """The comments that matplotlib leaves beside each drawn text."""
    return "\n".join(line.strip(" <!->") for line in svg.read_text().splitlines() if line.strip().startswith("<!--"))


def test_it_says_what_happened(tmp_path: Path) -> None:
    """Panels with their units, the mark, the alert, the way back and the remedy."""
    out = draw_run(recorded(tmp_path), tmp_path / "run.svg", marks={38: "a fault"})
    said = texts(out)
    for words in (
        "reward", "entropy (nats per token)", "KL to the reference (nats per token)", "optimizer step",
        "step 38: a fault", "step 40: loss_nonfinite (critical)", "step 41: back to the state of step 25",
        "learning rate 0.001 \N{RIGHTWARDS ARROW} 0.0002",
    ):  # fmt: skip
        assert words in said, words
    assert out.stat().st_size < 100_000


def test_it_is_the_same_picture_every_time(tmp_path: Path) -> None:
    """No date and no random ids, so that a committed one changes only with the run."""
    folder = recorded(tmp_path)
    one, other = draw_run(folder, tmp_path / "one.svg"), draw_run(folder, tmp_path / "other.svg")
    assert one.read_bytes() == other.read_bytes()


def test_a_png_has_no_background(tmp_path: Path) -> None:
    """So that it can be read on light and on dark pages."""
    from PIL import Image

    image = Image.open(draw_run(recorded(tmp_path), tmp_path / "run.png")).convert("RGBA")
    assert image.getpixel((2, 2))[3] == 0
    assert image.getextrema()[3][1] == 255


def test_what_was_given_up_is_apart(tmp_path: Path) -> None:
    """The steps from the state that came back to the step of the rollback; the kept ones go on behind it."""
    from rlwatch.report.picture import _pieces

    assert _pieces(read_run(recorded(tmp_path))) == [(1, 25, True), (26, 41, False), (42, 60, True)]
    assert _pieces(read_run(tmp_path / "run", first=30)) == [(30, 30, True), (31, 41, False), (42, 60, True)]
    assert _pieces(read_run(recorded(tmp_path / "whole", back=False))) == [(1, 60, True)]


def test_a_part_of_the_run_and_other_panels(tmp_path: Path) -> None:
    """From a step on, and only what was asked for."""
    folder = recorded(tmp_path)
    said = texts(draw_run(folder, tmp_path / "part.svg", panels=["loss"], first=45))
    assert "loss" in said
    assert "entropy" not in said
    assert "step 40" not in said


def test_labels_without_room_are_left_out(tmp_path: Path) -> None:
    """Of many alerts side by side one is named; all have their marker."""
    with Watch(runs_dir=tmp_path, run_id="many", console=False, loss_nonfinite={"cooldown": 0, "rearm": 1}) as watch:
        for step in range(1, 61):
            watch.log(step=step, loss=float("nan") if step % 4 == 0 else 0.1, reward_mean=0.5)
    assert len(read_run(tmp_path / "many").alerts) > 3
    assert texts(draw_run(tmp_path / "many", tmp_path / "many.svg")).count("loss_nonfinite") < 4


def test_lines_that_are_none_are_passed_over(tmp_path: Path) -> None:
    """A run under way, or a killed one, ends in the middle of a line; hostile ones are no matter."""
    folder = recorded(tmp_path)
    whole = read_run(folder)
    with (folder / "steps.jsonl").open("a") as file:
        file.write('[1]\n"x"\n{"step": "y"}\n{"step": null, "kl": 1}\n{"step": 61, "kl": {"a": 1}}\n{"step": 62, "kl"')
    run = read_run(folder)
    assert [*run.steps] == [*whole.steps, 61]
    draw_run(folder, tmp_path / "run.svg")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no steps.jsonl"),
        ("", "holds no step"),
        ('{"step": 1, "lengths": 3.0}\n', "none of reward_mean"),
    ],
)
def test_nothing_to_draw_is_one_sentence(content: str | None, message: str, tmp_path: Path) -> None:
    """It says what is missing."""
    if content is not None:
        (tmp_path / "steps.jsonl").write_text(content)
    with pytest.raises(PictureError, match=message):
        draw_run(tmp_path, tmp_path / "run.svg")
    assert not (tmp_path / "run.svg").exists()


def test_without_matplotlib_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for every extra."""
    folder = recorded(tmp_path)
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rlwatch\[plots\]'"):
        draw_run(folder, tmp_path / "run.svg")


def test_values_that_are_no_numbers_leave_a_gap(tmp_path: Path) -> None:
    """NaN is written as a string; missing values are missing."""
    rows: list[dict[str, Any]] = [{"step": step, "loss": 0.1} for step in range(9)]
    rows[3]["loss"] = "NaN"
    del rows[5]["loss"]
    (tmp_path / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert draw_run(tmp_path, tmp_path / "run.svg").is_file()
