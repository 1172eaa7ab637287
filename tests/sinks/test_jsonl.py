"""Strict JSON, whatever a run carries."""

from __future__ import annotations

import datetime
import enum
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlwatch.sinks.jsonl import MAX_ITEMS, MAX_TEXT, clean, encode_line, encode_pretty

numbers = st.one_of(
    st.floats(),
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(width=32).map(np.float32),
    st.floats().map(np.float64),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.booleans().map(np.bool_),
)
texts = st.text(st.characters())  # lone surrogates included
keys = st.one_of(texts, st.integers(), st.floats(), st.booleans(), st.none())
values = st.recursive(
    numbers | texts | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)


@given(record=st.dictionaries(texts, values, max_size=8))
def test_any_nesting_of_any_values_gives_one_strict_line(record: dict[str, Any], parse: Callable[..., Any]) -> None:
    """One line, ASCII, no bare NaN, nothing that a strict reader refuses."""
    line = encode_line(record)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    parsed = parse(line)
    parsed_text = repr(parsed)
    assert not any("\ud800" <= character <= "\udfff" for character in parsed_text)
    assert len(parsed) <= len(record)
    assert parse(encode_pretty(record)) is not None


@given(record=st.dictionaries(st.text(max_size=5), st.floats(), max_size=8))
def test_floats_come_back_as_they_went(record: dict[str, float], parse: Callable[..., Any]) -> None:
    """Finite floats survive exactly; the others come back through `float`."""
    record = {key.encode("utf-8", "replace").decode(): value for key, value in record.items()}
    for key, value in parse(encode_line(record)).items():
        assert isinstance(value, str) == (not math.isfinite(record[key]))
        assert float(value) == record[key] or (math.isnan(float(value)) and math.isnan(record[key]))


def test_nonfinite_words_at_every_level(parse: Callable[..., Any]) -> None:
    """NaN, Infinity and -Infinity are strings in lists, dicts and arrays alike."""
    record = {"a": [math.nan, {"b": math.inf}], "c": np.array([-math.inf, 1.0]), "d": np.float32("nan")}
    assert parse(encode_line(record)) == {"a": ["NaN", {"b": "Infinity"}], "c": ["-Infinity", 1.0], "d": "NaN"}


class _Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")


class _Tensor:
    device = "cuda:0"

    def __str__(self) -> str:
        raise AssertionError("reading it would wait for the device")


class _Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Path("runs/a"), "runs/a"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (_Colour.RED, "red"),
        (_Rude(), "<_Rude>"),
        (_Tensor(), "<_Tensor>"),
        (np.zeros(()), 0.0),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        (10**400, "Infinity"),
        (-(10**400), "-Infinity"),
        ("\ud800x", "?x"),
    ],
)
def test_what_json_has_no_word_for_becomes_text(value: Any, expected: Any) -> None:
    """Paths, dates, enums, rude objects and accelerator tensors are named, never asked twice."""
    assert clean(value) == expected


def test_sizes_are_bounded(parse: Callable[..., Any]) -> None:
    """Long lists, long texts and cycles are cut, and the cut shows."""
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    assert b"..." in encode_line(cycle)
    assert clean(list(range(MAX_ITEMS + 5)))[-1] == "..."
    assert len(clean(np.arange(10 * MAX_ITEMS))) == MAX_ITEMS + 1
    assert clean({str(i): i for i in range(MAX_ITEMS + 5)})["..."] == "5 more"
    assert clean("x" * (MAX_TEXT + 7)).endswith("... [7 more characters]")
