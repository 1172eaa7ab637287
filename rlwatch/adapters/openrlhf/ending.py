"""How a run stops: its data ends. OpenRLHF has no other way out that closes the trackers and saves the model."""

from __future__ import annotations

from typing import Any

EXHAUSTED: tuple[list[Any], None, int, bool] = ([], None, 0, True)
"""What `SamplesGenerator.generate_samples` gives at the end of an episode: no samples, exhausted."""


class Exhausted:
    """Stands in for `generate_samples` of one generator from a halt on: no episode has prompts left."""

    def __call__(self, **kwargs: Any) -> tuple[list[Any], None, int, bool]:
        return EXHAUSTED


def end_data(samples_generator: Any) -> None:
    """From now on this generator has nothing left, in this episode and in all that follow."""
    samples_generator.generate_samples = Exhausted()
