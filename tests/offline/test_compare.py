"""Where two runs, or two groups of seeds, part company."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_compare import log

from rlwatch import Watch
from rlwatch.cli import main
from rlwatch.offline.compare.align import align
from rlwatch.offline.compare.compare import Comparison, compare
from rlwatch.offline.compare.links import LINK_OF, ORDER, ordered
from rlwatch.offline.compare.parting import Difference
from rlwatch.offline.compare.series import Column, read_run
from rlwatch.signals import SIGNALS


def entropy_falls(row: dict[str, Any], step: int) -> None:
    """From step 60 on the entropy is a fifth, from step 80 on the reward falls."""
    if step >= 60:
        row["entropy"] *= 0.2
    if step >= 80:
        row["reward"] *= 0.3


def signals_of(found: list[Difference]) -> list[str]:
    return [one.signal for one in found]


def test_two_runs_part_where_they_were_made_to(tmp_path: Path) -> None:
    """The signal that parted first is first, at its step, and the one that was left alone did not part."""
    a, b = log(tmp_path / "a.jsonl", 1), log(tmp_path / "b.jsonl", 2, entropy_falls)
    done = compare([str(a)], [str(b)])
    assert signals_of(done.partings) == ["entropy", "reward_mean"]
    assert 58 <= (done.partings[0].step or 0) <= 62
    assert 78 <= (done.partings[1].step or 0) <= 82
    assert {"kl", "grad_norm", "learning_rate"} <= set(signals_of(done.together))
    assert (done.verdict, done.exit_code, done.seeds, done.equal) == ("parted", 1, False, None)


def test_runs_of_one_seed_are_equal_up_to_the_change(tmp_path: Path) -> None:
    """Two runs of one seed: the last equal step and what differs next are told exactly."""
    a, b = log(tmp_path / "a.jsonl", 1), log(tmp_path / "b.jsonl", 1, entropy_falls)
    done = compare([str(a)], [str(b)])
    assert done.equal == (59, ["entropy"])
    assert done.partings[0].step == 60
    same = compare([str(a)], [str(a)])
    assert same.verdict == "together"
    assert same.equal == (120, [])


def test_seeds_that_differ_by_luck_alone_do_not_part(tmp_path: Path) -> None:
    """Luck that stays with a seed is what the spread of the seeds allows for; one run a side says that it is weaker."""
    sides = [[str(log(tmp_path / f"{side}{n}.jsonl", 10 * side + n, luck=0.04)) for n in range(3)] for side in (1, 2)]
    done = compare(*sides)
    assert done.verdict == "together"
    assert done.seeds
    assert all(one.interval is not None for one in done.together)


def test_seeds_part_where_the_change_is_larger_than_their_spread(tmp_path: Path) -> None:
    """Three seeds a side, the entropy falls in one side's: found at its step, with effect and interval."""
    a = [str(log(tmp_path / f"a{n}.jsonl", n)) for n in range(3)]
    b = [str(log(tmp_path / f"b{n}.jsonl", 20 + n, entropy_falls)) for n in range(3)]
    done = compare(a, b)
    first = done.partings[0]
    assert (first.signal, first.band) == ("entropy", "seeds")
    assert 58 <= (first.step or 0) <= 62
    assert first.effect is not None
    assert first.effect < -3
    assert first.interval is not None
    assert first.interval[0] < first.end_b - first.end_a < first.interval[1] < 0


def test_a_value_that_is_not_finite_parts_at_its_step(tmp_path: Path) -> None:
    """NaN in one side's loss is no noise: the parting is there, also in one run of three; in both it is none."""

    def nan_from_70(row: dict[str, Any], step: int) -> None:
        row["loss"] = math.nan if step >= 70 else 0.1

    def finite(row: dict[str, Any], step: int) -> None:
        row["loss"] = 0.1

    a = [str(log(tmp_path / f"a{n}.jsonl", n, finite)) for n in range(3)]
    b = [str(log(tmp_path / f"b{n}.jsonl", 20 + n, nan_from_70 if n == 1 else finite)) for n in range(3)]
    done = compare(a, b)
    assert [(one.signal, one.step) for one in done.partings] == [("loss", 70)]
    assert done.partings[0].nonfinite == "not finite in B from step 70 (1 of 3 runs)"
    assert compare(b, b).verdict == "together"


def test_a_signal_of_which_one_side_has_no_number_parts_at_its_first_step(tmp_path: Path) -> None:
    """NaN from step 0 to the end leaves nothing to align, and is a parting all the same."""

    def from_zero(row: dict[str, Any], step: int) -> None:
        row["step"] = step - 1

    def broken(row: dict[str, Any], step: int) -> None:
        row |= {"step": step - 1, "kl": math.nan}

    done = compare([str(log(tmp_path / "a.jsonl", 0, from_zero))], [str(log(tmp_path / "b.jsonl", 0, broken))])
    (kl,) = done.partings
    assert (kl.signal, kl.step, kl.nonfinite) == ("kl", 0, "not finite in B from step 0")
    assert done.exit_code == 1


def test_the_machine_is_no_part_of_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A slower machine is told and does not fail the gate, unless it is asked for."""

    def timed(seconds: float) -> Any:
        return lambda row, step: row.update(step_time=seconds)

    a, b = (str(log(tmp_path / f"{name}.jsonl", n, timed(1.0 + n))) for n, name in enumerate("ab"))
    assert main(["compare", a, b]) == 0
    assert "of the machine and not of the training: step_time at step 1" in capsys.readouterr().out
    assert main(["compare", a, b, "--signal", "step_time"]) == 1


def test_a_level_that_remembers_gets_a_wider_band() -> None:
    """The mean of the last 30 episodes of two seeds wanders apart without a cause."""
    from rlwatch.offline.compare.band import band_of

    draw = np.random.default_rng(0)
    raw = draw.normal(size=(2, 150))
    kept = np.array([np.convolve(run, np.ones(30) / 30, "valid") for run in raw])
    assert band_of(kept[:1], kept[1:]).limit[0] > 2 * band_of(kept[:1], kept[1:], one_seed=True).limit[0]


def test_other_log_intervals_and_lengths_are_aligned(tmp_path: Path) -> None:
    """A log of every step against one of every ten: means of ten are compared, up to the end of the shorter."""
    fine = log(tmp_path / "fine.jsonl", 1, rows=500)
    coarse = log(tmp_path / "coarse.jsonl", 2, rows=40, every=10)
    # The fine log's course is drawn over 40 rows, the coarse one's over 400 steps: only what stands still is alike.
    done = compare([str(fine)], [str(coarse)], signals=["grad_norm", "learning_rate"])
    assert [one.rows for one in done.together] == [40, 40]
    assert done.together[0].averaged
    assert "not logged at the same steps" in " ".join(done.remarks)
    assert "compared up to step 400" in " ".join(done.remarks)


def test_a_run_that_went_back_counts_its_later_rows(tmp_path: Path) -> None:
    """After a restart the later row of a step is the one that counts."""
    path = tmp_path / "a.jsonl"
    rows = [{"step": step, "kl": 1.0} for step in range(30)] + [{"step": step, "kl": 2.0} for step in range(20, 40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    column = read_run(path).columns["kl"]
    assert column.steps.tolist() == list(range(40))
    assert column.values.tolist() == [1.0] * 20 + [2.0] * 20


def test_what_cannot_be_compared_is_named_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A signal of one side only, one that is asked for and missing, a misspelt one, runs without common steps."""

    def without_kl(row: dict[str, Any], step: int) -> None:
        del row["kl"]

    a, b = log(tmp_path / "a.jsonl", 1), log(tmp_path / "b.jsonl", 2, without_kl)
    assert main(["compare", str(a), str(b)]) == 0
    assert "not compared, because only A has it: kl" in capsys.readouterr().out
    assert main(["compare", str(a), str(b), "--signal", "kl"]) == 3
    assert "NOT EVALUATED: kl was not compared, because only A has it" in capsys.readouterr().out
    assert main(["compare", str(a), str(b), "--signal", "entropy", "--signal", "rewrd_mean"]) == 3
    assert "neither side has it (did you mean reward_mean" in capsys.readouterr().out

    def later(row: dict[str, Any], step: int) -> None:
        row["step"] = step + 1000

    c = log(tmp_path / "c.jsonl", 1, later)
    assert main(["compare", str(a), str(c)]) == 3
    assert "no steps in common (--by-row" in capsys.readouterr().out
    assert main(["compare", str(a), str(c), "--by-row"]) == 0


def test_the_gate_both_ways_and_with_data_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 together, 1 parted, 3 for a run that cannot be read (also among good ones), 64 for a wrong command line."""
    a, b = log(tmp_path / "a.jsonl", 1), log(tmp_path / "b.jsonl", 2, entropy_falls)
    log(tmp_path / "a2.jsonl", 3)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    short = log(tmp_path / "short.jsonl", 4, rows=5)
    assert main(["compare", str(a), str(tmp_path / "a2.jsonl")]) == 0
    assert main(["compare", str(a), str(b)]) == 1
    assert main(["compare", str(a), str(empty)]) == 3
    assert main(["compare", str(a), str(short)]) == 3
    assert main(["compare", "--a", str(a), "--b", str(b), "--b", str(empty)]) == 3
    assert main(["compare", str(a), str(tmp_path / "none.jsonl")]) == 3
    assert main(["compare", str(a)]) == 64
    assert main(["compare", "--a", str(a), "--b", str(tmp_path / "no-*")]) == 64
    assert main(["compare", str(a), str(b), "--picture", str(tmp_path / "x.nothing")]) == 64
    capsys.readouterr()
    assert main(["compare", str(a), str(tmp_path / "a2.jsonl"), str(b), "--format", "json"]) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["verdict"], second["verdict"]) == ("together", "parted")
    assert second["first"]["signal"] == "entropy"


def test_the_records_of_two_watched_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real run folders: the setting that differs is told, and a group's folder stands for its runs."""
    for side, cooldown in (("a", 60), ("b", 50)):
        for seed in range(3):
            draw = np.random.default_rng(seed + 10 * (side == "b"))
            own = {"run_id": f"{side}{seed}", "console": False, "stall": False}
            with Watch(runs_dir=tmp_path / side, length_exploitation={"cooldown": cooldown}, **own) as watch:
                for step in range(40):
                    watch.log(step=step, entropy=0.4 + 0.01 * draw.normal(), reward_mean=draw.normal())
    code = main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--picture", str(tmp_path / "p.svg")])
    out = capsys.readouterr().out
    assert code == 0
    assert "settings.length_exploitation.cooldown  60 -> 50" in out
    assert (tmp_path / "p.svg").read_text().startswith("<?xml")
    assert "3 runs" in out


def test_every_scalar_signal_has_a_link() -> None:
    """No signal of the vocabulary is without its place in the order."""
    assert all(LINK_OF[name] in ORDER and LINK_OF[name] != "unknown" for name in SIGNALS)
    expected = {"reward_std": "reward", "kl": "policy", "explained_variance": "critic", "entropy": "exploration"}
    expected |= {"ess": "freshness", "grad_norm": "numerics", "memory_host": "system", "learning_rate": "setting"}
    assert {name: LINK_OF[name] for name in expected} == expected


def test_the_order_goes_by_time_and_then_by_the_loop() -> None:
    """What surely came earlier is first; of what may have come at once the earlier link."""
    made = [
        Difference("grad_norm", "numerics", "parted", step=20, earliest=15),
        Difference("reward_mean", "reward", "parted", step=22, earliest=19),
        Difference("kl", "policy", "parted", step=90, earliest=85),
        Difference("entropy", "exploration", "parted", step=10, earliest=8),
    ]
    assert signals_of(ordered(made)) == ["entropy", "reward_mean", "grad_norm", "kl"]


@given(
    st.lists(st.tuples(st.integers(1, 7), st.integers(12, 60)), min_size=2, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_alignment_loses_and_invents_nothing(shapes: list[tuple[int, int]], seed: int) -> None:
    """Every value on the grid is the mean of values that were logged, at steps that all runs cover."""
    draw = np.random.default_rng(seed)
    columns = [Column(np.arange(1, n + 1) * float(every), draw.normal(size=n)) for every, n in shapes]
    made = align(columns)
    if made.why_not:
        assert made.steps.size == 0
        return
    assert np.isfinite(made.values).all()
    assert made.steps[-1] <= min(column.steps[-1] for column in columns)
    for column, row in zip(columns, made.values, strict=True):
        assert column.values.min() - 1e-12 <= row.min()
        assert row.max() <= column.values.max() + 1e-12


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40), st.booleans())
def test_no_values_break_it(values: list[float], together: bool) -> None:
    """Any numbers, huge, equal or not finite, give a verdict and strict JSON."""
    from rlwatch.offline.compare.parting import difference
    from rlwatch.offline.compare.series import Run
    from rlwatch.sinks.jsonl import clean

    steps = np.arange(len(values), dtype=float)
    runs = [
        Run(name, columns={"kl": Column(steps, np.array(values) * sign)}) for name, sign in (("a", 1.0), ("b", -1.0))
    ]
    found = difference("kl", [runs[0]], [runs[0] if together else runs[1]])
    assert found.verdict in ("parted", "together", "not compared")
    assert not (together and found.verdict == "parted")
    json.dumps(clean(found.as_dict()), allow_nan=False)
    assert isinstance(Comparison([runs[0]], [runs[1]]).unevaluated, str)
