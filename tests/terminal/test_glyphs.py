"""Sparklines."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from rlwatch.terminal.glyphs import ASCII, UNICODE, columns, glyphs_for, marks, sparkline


def test_a_ramp_goes_up() -> None:
    """Eight values from low to high are the eight levels."""
    assert sparkline(range(8), 8, UNICODE) == "▁▂▃▄▅▆▇█"
    assert sparkline(range(8), 8, ASCII) == "_.-~=+*#"


def test_a_spike_and_a_nan_outlive_the_narrowing() -> None:
    """One value of 1,000 that is far off, or not finite, is still seen in ten characters."""
    values = [1.0 + row % 10 / 100 for row in range(1000)]
    values[555] = 50.0
    assert sparkline(values, 10, UNICODE)[5] == "█"
    assert set(sparkline(values, 10, UNICODE)) == {"▁", "█"}
    values[123] = math.nan
    assert sparkline(values, 10, UNICODE)[1] == UNICODE.nonfinite


def test_rows_without_the_value_keep_their_place() -> None:
    """A metric that comes every other row stands below those that come in each."""
    assert sparkline([0.0, None, 1.0, None], 4, ASCII) == "_ # "
    assert sparkline([0.0, None, None, 1.0], 2, ASCII) == "_#"
    assert sparkline([None, None], 2, ASCII) == "  "


@given(st.lists(st.none() | st.floats(), max_size=60), st.integers(1, 40))
def test_any_numbers_give_a_line_of_the_width(values: list[float | None], width: int) -> None:
    """Infinities, NaN and the largest floats among them."""
    line = sparkline(values, width, UNICODE)
    assert len(line) == min(len(values), width)
    assert set(line) <= {*UNICODE.levels, UNICODE.nonfinite, " "}
    assert [id(one) for part in columns(values, width) for one in part] == list(map(id, values))


def test_marks_stand_below_their_steps() -> None:
    """An alert's mark has the column of its step."""
    assert marks([0, 1, 2, 3, 4, 5], {3, 99}, 3, ASCII) == " ^"
    assert marks([], {3}, 3, ASCII) == ""


def test_glyphs_fit_the_encoding() -> None:
    """ASCII where the encoding, or an unknown one, cannot carry the others."""
    assert glyphs_for("utf-8") is UNICODE
    assert glyphs_for("ascii") is glyphs_for("latin-1") is glyphs_for("no-such-encoding") is ASCII
    assert "".join((*ASCII[:4], *ASCII.states.values())).isascii()
    assert ASCII.states.keys() == UNICODE.states.keys()
