"""Rollouts in every form that is read, and in forms that cannot be."""

from __future__ import annotations

import csv
import gzip
import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rollouts_made import Row, rollouts, written

from rlwatch.offline.reward_health import columns, gold, limits
from rlwatch.offline.reward_health.build import read
from rlwatch.offline.reward_health.columns import ColumnError
from rlwatch.offline.reward_health.health import Request, examine
from rlwatch.offline.reward_health.reading import samples
from rlwatch.offline.reward_health.rollouts import Rollouts
from rlwatch.offline.source import IngestError, Notes

pytest.importorskip("scipy")


def same(made: Rollouts, rows: list[Row]) -> None:
    """Whether the rollouts are those of the rows."""
    for role in ("reward", "gold", "length", "step"):
        np.testing.assert_allclose(made.values[role], [row[role] for row in rows])
    assert len(np.unique(made.prompt)) == len({row["prompt"] for row in rows})
    assert len(np.unique(made.group)) == len({(row["step"], row["prompt"]) for row in rows})
    assert made.measures["repetition"].shape == (len(rows),)


def test_json_lines_plain_and_packed(tmp_path: Path) -> None:
    """gzip and zstd by their first bytes."""
    zstandard = pytest.importorskip("zstandard")
    rows = rollouts(steps=3)
    plain = written(tmp_path / "a.jsonl", rows)
    same(read(plain, {}), rows)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    same(read(tmp_path / "b.jsonl.gz", {}), rows)
    (tmp_path / "c.zst").write_bytes(zstandard.compress(plain.read_bytes()))
    same(read(tmp_path / "c.zst", {}), rows)


def test_csv_with_line_breaks_in_its_texts(tmp_path: Path) -> None:
    """A completion may hold commas, quotes and line breaks."""
    rows = rollouts(steps=3)
    for row in rows:
        row["prompt"] = f'first,\n"{row["prompt"]}"\n'
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    same(read(tmp_path / "a.csv", {}), rows)


def test_parquet_and_a_json_document(tmp_path: Path) -> None:
    """A row a sample, whatever the container."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = rollouts(steps=3)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    same(read(tmp_path / "a.parquet", {}), rows)
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    same(read(tmp_path / "a.json", {}), rows)


def test_verls_dump_a_file_a_step(tmp_path: Path) -> None:
    """`rollout_data_dir`: input, output, gts, score, in files named by the step; read in the steps' order."""
    rows = rollouts(steps=12)
    for step in range(1, 13):
        of = [row for row in rows if row["step"] == step]
        dump = [{"input": row["prompt"], "output": row["completion"], "gts": "4", "score": row["reward"], "step": step}
                for row in of]  # fmt: skip
        written(tmp_path / f"{step}.jsonl", dump)
    made = read(tmp_path, {})
    assert made.columns == {
        "reward": "score", "prompt": "input", "completion": "output", "step": "step",
    }  # fmt: skip
    np.testing.assert_allclose(made.values["step"], [row["step"] for row in rows])
    np.testing.assert_allclose(made.values["reward"], [row["reward"] for row in rows])
    assert made.length_unit == "characters"


def test_batches_in_lists_and_components_in_dicts(tmp_path: Path) -> None:
    """A row a step, with lists; components nested in a dict."""
    row = {
        "step": 3, "prompts": ["a", "a", "b"], "completions": ["x", "yy", "zzz"], "rewards": [1.0, None, 3.0],
        "reward_components": {"right": [1.0, 0.0, 1.0], "form": [0.0, 0.0, 2.0]},
    }  # fmt: skip
    made = read(written(tmp_path / "a.jsonl", [row, row]), {})
    assert made.size == 6
    np.testing.assert_array_equal(made.values["reward"][:3], [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(made.components["form"][:3], [0.0, 0.0, 2.0])
    np.testing.assert_array_equal(made.values["length"][:3], [1, 2, 3])


def test_the_conversational_form(tmp_path: Path) -> None:
    """Messages instead of texts: the last one counts."""
    asked = [{"role": "user", "content": "2+2"}]
    said = [[{"role": "assistant", "content": "four" * i}] for i in range(1, 4)]
    rows = [{"prompt": asked, "completion": each, "reward": at} for at, each in enumerate(said)]
    made = read(written(tmp_path / "a.jsonl", rows), {})
    np.testing.assert_array_equal(made.values["length"], [4, 8, 12])
    assert len(np.unique(made.prompt)) == 1


def test_maps_name_columns_and_what_is_not_there_is_said(tmp_path: Path) -> None:
    """`--map` wins over the known names; a column that never comes is named."""
    rows = rollouts(steps=2, change=lambda row, rng: row.update(mine=5.0))
    made = read(written(tmp_path / "a.jsonl", rows), {"reward": "mine", "gold": "nope"})
    assert set(made.values["reward"]) == {5.0}
    assert made.get("gold") is None
    assert "there is no column 'nope' (--map gold=nope)" in made.remarks


@pytest.mark.parametrize("pair", ["reward", "reward=", "=x", "rewrd=x"])
def test_a_wrong_map_is_one_sentence(pair: str) -> None:
    """Not ROLE=COLUMN, or no role."""
    with pytest.raises(ColumnError, match="--map"):
        columns.parsed([pair])


@pytest.mark.parametrize("pair", ["length", "lenth=0.5", "length=much", "length=7"])
def test_a_wrong_limit_is_one_sentence(pair: str) -> None:
    """Not NAME=VALUE, no limit, no number, out of range."""
    with pytest.raises(ColumnError, match="--limit"):
        limits.parsed([pair], limits.Limits)


@pytest.fixture(scope="module")
def trl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a real GRPO run with two reward functions and gold scores logged beside."""
    pytest.importorskip("pyarrow")
    from support_trl import grpo

    def digits(completions: list[str], log_extra: Any = None, **_: Any) -> list[float]:
        if log_extra:
            log_extra("gold", [float(len(text)) for text in completions])
            log_extra("words", [float(text.count(" ")) for text in completions])
        return [sum(char.isdigit() for char in text) / max(1, len(text)) for text in completions]

    def vowels(completions: list[str], **_: Any) -> list[float]:
        return [sum(char in "aeiou" for char in text) / max(1, len(text)) for text in completions]

    folder = tmp_path_factory.mktemp("trl")
    with redirect_stdout(io.StringIO()):
        grpo(folder, [], reward_funcs=[digits, vowels], log_completions=True, logging_steps=1).train()
    return folder


def test_trls_completions_of_a_real_run(trl_folder: Path) -> None:
    """The total is the sum of the reward functions, told from the advantages; what else is logged is no part."""
    made = read(trl_folder, {})
    assert made.format == "TRL completions"
    assert made.columns["reward"] == "digits + vowels"
    assert set(made.components) == {"digits", "vowels"}
    assert set(made.features) == {"words"}
    assert made.get("gold") is not None
    np.testing.assert_array_equal(np.unique(made.values["step"]), [1, 2, 3, 4])
    np.testing.assert_allclose(made.values["reward"], made.components["digits"] + made.components["vowels"])
    weighed = read(trl_folder, {}, weights={"digits": 1.0, "vowels": 0.5})
    assert weighed.columns["reward"] == "digits + 0.5 vowels"


def test_a_trl_file_that_repeats_the_one_before_is_left_out(trl_folder: Path, tmp_path: Path) -> None:
    """Steps that generate nothing new write the same samples again."""
    first = next(iter(sorted((trl_folder / "completions").iterdir())))
    for step in (1, 2):
        (tmp_path / f"completions_0000{step}.parquet").write_bytes(first.read_bytes())
    made = read(tmp_path, {})
    assert made.size == read(first, {}).size
    assert "1 files repeat" in made.remarks[0]


def test_gold_is_joined_by_id_by_texts_and_by_order(tmp_path: Path) -> None:
    """In another order, with rows missing; and a file that cannot be joined is an error."""
    rows = rollouts(steps=2)
    for at, row in enumerate(rows):
        row["id"] = f"s{at}"
    bare = [{name: row[name] for name in ("id", "prompt", "completion", "reward")} for row in rows]
    shuffled = [rows[at] for at in np.random.default_rng(0).permutation(len(rows))][:-20]
    for keys in (("id",), ("prompt", "completion")):
        run = read(written(tmp_path / "run.jsonl", bare), {})
        if keys != ("id",):
            run.keys = []
        scores = [{**{key: row[key] for key in keys}, "score": row["gold"]} for row in shuffled]
        gold.join(run, read(written(tmp_path / "gold.jsonl", scores), {}))
        known = np.isfinite(run.values["gold"])
        assert known.sum() == len(rows) - 20
        np.testing.assert_allclose(run.values["gold"][known], np.asarray([row["gold"] for row in rows])[known])
    run = read(written(tmp_path / "run.jsonl", bare), {})
    gold.join(run, read(written(tmp_path / "gold.jsonl", [{"gold": row["gold"]} for row in rows]), {}))
    assert "joined by order" in run.remarks[-1]
    with pytest.raises(IngestError, match="cannot be joined"):
        gold.join(run, read(written(tmp_path / "gold.jsonl", [{"gold": 1.0}] * 7), {}))
    with pytest.raises(IngestError, match="no gold score"):
        gold.join(run, read(written(tmp_path / "gold.jsonl", [{"prompt": "x"}]), {}))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b"", "empty"),
        ("a.jsonl", b"nothing here\n", "holds no sample"),
        ("a.jsonl", b"\x00\x01\x02\x03", "binary"),
        ("a.parquet", b"PAR1 and no more", "Parquet data cannot be read"),
        ("a.jsonl.gz", gzip.compress(b'{"reward": 1}\n' * 99)[:-12], ""),
        ("a.json", b'[{"reward": 1}, {"rew', "broken or cut off"),
        ("a.zip", b"PK\x03\x04", "unpack it"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    """Empty, no samples, binary, broken, cut off, packed otherwise."""
    (tmp_path / name).write_bytes(content)
    if not says:
        assert any("cut off" in remark for remark in read(tmp_path / name, {}).remarks)
        return
    with pytest.raises(IngestError, match=says):
        read(tmp_path / name, {})


def test_folders_without_rollouts(tmp_path: Path) -> None:
    """A folder that is missing, or holds something else."""
    with pytest.raises(IngestError, match="no such file"):
        read(tmp_path / "nowhere", {})
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(IngestError, match="holds no rollouts"):
        read(tmp_path, {})


CELL = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.lists(st.floats(), max_size=3),
    st.dictionaries(st.text(max_size=4), st.floats(), max_size=2),
)  # fmt: skip
KEY = st.one_of(
    st.sampled_from(["reward", "gold", "prompt", "completion", "step", "length", "kl", "group", "id", "rewards"]),
    st.text(max_size=6),
)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.dictionaries(KEY, CELL, max_size=8), max_size=60))
def test_any_rows_give_verdicts_or_one_sentence(tmp_path: Path, rows: list[Row]) -> None:
    """Whatever the cells hold: every check has a verdict, or the file is refused."""
    path = written(tmp_path / "any.jsonl", rows)
    try:
        case, checks = examine(Request(path, reference=path))
    except IngestError:
        return
    assert len(checks) == 10
    for check in checks:
        assert check.verdict != "pass" or case.run.get("reward") is not None
        json.dumps(check.as_dict(), allow_nan=False)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scale=st.sampled_from([1e-30, 1e-9, 1.0, 1e9, 1e30, 1e300]),
    kind=st.sampled_from(["constant", "two", "noise", "huge", "step"]),
    bad=st.floats(0, 1),
    seed=st.integers(0, 5),
)
def test_columns_of_any_scale_give_verdicts(tmp_path: Path, scale: float, kind: str, bad: float, seed: int) -> None:
    """Tiny and huge numbers, constants, many missing: no exception, no NaN in the figures' JSON."""
    rng = np.random.default_rng(seed)

    def change(row: Row, _: Any) -> None:
        value = {"constant": 1.0, "two": float(rng.integers(2)), "noise": rng.normal(), "huge": rng.standard_cauchy(),
                 "step": float(row["step"])}[kind]  # fmt: skip
        row |= {"reward": value * scale if rng.random() > bad else None, "gold": rng.normal() * scale, "kl": value}

    path = written(tmp_path / "any.jsonl", rollouts(steps=12, prompts=5, answers=2, seed=seed, change=change))
    for check in examine(Request(path, reference=path))[1]:
        json.dumps(check.as_dict(), allow_nan=False)


def test_a_table_of_one_column_is_read(tmp_path: Path) -> None:
    """A file with nothing but the scores, as `--gold` may be, has no delimiter to be told by."""
    path = tmp_path / "gold.csv"
    path.write_text("gold\n0.5\n1\n0\n")
    assert [row["gold"] for row in samples(path, Notes())] == ["0.5", "1", "0"]
    path.write_text("\n\n")
    assert list(samples(path, Notes())) == []
