"""The trainer's own checkpoints on disk: the newest from before the trouble."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlwatch.responses.checkpoints import CheckpointsError, read_tags
from rlwatch.responses.health import Standing

if TYPE_CHECKING:
    from rlwatch.watch import Watch


def newest_healthy(trainer: Any, watch: Watch) -> tuple[str, int] | None:
    """Path and step of the newest checkpoint that is proven healthy; failing that, of the newest from before the onset.

    The weights of `checkpoint-N` are those that the row of step N + 1 was measured on. What an earlier process has
    found to be poisoned stays so.
    """
    folder = Path(trainer.args.output_dir)
    poisoned = _poisoned(folder)
    unproven: tuple[str, int] | None = None
    for step, path in sorted(_checkpoints(folder), reverse=True):
        row = watch.rows - 1 - (watch.step - (step + 1))
        if row > watch.health.row or path.name in poisoned:
            continue
        standing = watch.health.standing(row)
        if standing is Standing.HEALTHY:
            return str(path), step
        if standing is Standing.UNPROVEN and unproven is None:
            unproven = str(path), step
    return unproven


def _poisoned(folder: Path) -> set[str]:
    try:
        return {tag.name for tag in read_tags(folder) if tag.health == Standing.POISONED}
    except CheckpointsError:
        return set()


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Step and path of every whole checkpoint; `trainer_state.json` is what Hugging Face needs to resume."""
    found = []
    for path in folder.glob("checkpoint-*"):
        number = path.name.rpartition("-")[2]
        if number.isdigit() and (path / "trainer_state.json").is_file():
            found.append((int(number), path))
    return found
