"""The trainer's own checkpoints on disk: the newest from before the trouble."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlwatch.responses.health import Standing

if TYPE_CHECKING:
    from rlwatch.watch import Watch


def newest_healthy(trainer: Any, watch: Watch) -> tuple[str, int] | None:
    """Path and step of the newest checkpoint that is proven healthy; failing that, of the newest from before the onset.

    The weights of `checkpoint-N` are those that the row of step N + 1 was measured on.
    """
    unproven: tuple[str, int] | None = None
    for step, path in sorted(_checkpoints(Path(trainer.args.output_dir)), reverse=True):
        row = watch.rows - 1 - (watch.step - (step + 1))
        if row > watch.health.row:
            continue
        standing = watch.health.standing(row)
        if standing is Standing.HEALTHY:
            return str(path), step
        if standing is Standing.UNPROVEN and unproven is None:
            unproven = str(path), step
    return unproven


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Step and path of every whole checkpoint; `trainer_state.json` is what Hugging Face needs to resume."""
    found = []
    for path in folder.glob("checkpoint-*"):
        number = path.name.rpartition("-")[2]
        if number.isdigit() and (path / "trainer_state.json").is_file():
            found.append((int(number), path))
    return found
