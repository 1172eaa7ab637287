"""The shape of a batch's rewards in words."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlwatch import histogram
from rlwatch.histogram import diagnose

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(0.0, 1.0, 512)


def test_the_examples_in_the_docstrings_hold() -> None:
    """Each doctest of the module."""
    assert doctest.testmod(histogram).failed == 0


@pytest.mark.parametrize(
    ("rewards", "shape", "words"),
    [
        (np.full(64, 0.5), "constant", "all are 0.5"),
        (np.r_[np.zeros(127), 1.0], "almost constant", "almost all (99%) are 0"),
        (np.r_[np.ones(127), 0.0], "almost constant", "almost all (99%) are 1"),
        ((RNG.random(64) < 0.3).astype(float), "few values", "2 distinct values (0 to 1)"),
        (np.minimum(NORMAL, 0.3), "clipped", "sit exactly at the largest value, 0.3"),
        (np.maximum(NORMAL, 0.0), "clipped", "sit exactly at the smallest value, 0"),
        (np.r_[NORMAL, 80.0, 90.0], "long tail", "of the variance"),
        (NORMAL, "spread", "spread from"),
        (RNG.lognormal(0.0, 0.8, 512), "spread", "spread from"),
    ],
)
def test_shapes(rewards: np.ndarray, shape: str, words: str) -> None:
    """Each shape with its own words; a skewed reward is not yet a long tail."""
    seen = diagnose(rewards)
    assert seen.shape == shape
    assert words in seen.text


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=300))
def test_any_finite_rewards(values: list[float]) -> None:
    """No batch raises; the commonest value is one of the batch."""
    with np.errstate(all="ignore"):
        seen = diagnose(np.array(values))
    assert seen.value in values
    assert 0.0 < seen.share <= 1.0
