"""Rows whose keys came before are taken as they are: the same rows come out as of a log that never repeats its keys."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rlwatch.offline.rows import Normaliser

ODD = ["NaN", "0.5", "text", 10**400, [1.0], {"a": 1.0}]
VALUES = st.one_of(st.floats(), st.integers(), st.booleans(), st.none(), st.sampled_from(ODD))


def plain(value: Any) -> Any:
    """NaN as a word, so that rows can be compared."""
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def rows(dicts: list[dict[str, Any]], remember: bool) -> list[tuple[int, list[tuple[str, Any]]]]:
    """Steps and metrics in their order; without `remember` no keys are known."""
    one = Normaliser({})
    if not remember:
        one._remember = lambda *_: None  # type: ignore[method-assign]
    return [(row.step, [(key, plain(value)) for key, value in row.metrics.items()]) for row in one.rows(dicts)]


@given(st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=12))
def test_known_keys_change_nothing(table: list[tuple[Any, Any, Any]]) -> None:
    """Whatever comes after two usual rows, a step that is none among it."""
    dicts: list[dict[str, Any]] = [{"step": number, "kl": 0.1, "loss": 1} for number in range(2)]
    dicts += [{"step": step, "kl": kl, "loss": loss} for step, kl, loss in table]
    assert rows(dicts, remember=True) == rows(dicts, remember=False)


def test_what_may_name_a_process_is_not_taken_as_it_is() -> None:
    """Rows of several ranks are told apart although their keys are the same."""
    one = Normaliser({})
    dicts = [{"step": step, "rank": rank, "kl": 0.1} for step in range(3) for rank in (0, 1)]
    assert [row.step for row in one.rows(dicts)] == [0, 1, 2]
    assert one.ranks.left_out == 3
