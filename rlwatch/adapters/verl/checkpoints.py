"""verl's checkpoints: which are healthy, and the Watch's state in each."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlwatch.adapters.verl.settings import entry
from rlwatch.responses.checkpoints import CheckpointsError, read_tags
from rlwatch.responses.health import Standing
from rlwatch.sinks.files import replace

if TYPE_CHECKING:
    from rlwatch.guest import Guest
    from rlwatch.watch import Watch

logger = logging.getLogger("rlwatch")

FILE = "rlwatch.json"
"""Beside `actor`, `critic` and `data.pt` in `global_step_N`: the Watch's state after step N, and the rollbacks."""

CLOSE_WAIT = 5.0


class Checkpoints:
    """The checkpoints of one run in `trainer.default_local_dir`.

    verl saves in the midst of step N, after its update. So the weights of `global_step_N` are those that the row of
    step N + 1 is measured on, and the state to go on with is the one after the row of step N.
    """

    def __init__(self, trainer: Any, watch: Watch, guest: Guest) -> None:
        self._trainer = trainer
        self._watch = watch
        self._guest = guest
        self._saving: int | None = None
        self._threads: list[threading.Thread] = []
        self.last: int | None = None

    @property
    def folder(self) -> Path:
        """Where they are, as verl finds it: a relative one is in the driver's working directory."""
        return Path(str(entry(self._trainer.config, "trainer.default_local_dir"))).absolute()

    def saving(self, step: int) -> None:
        """The trainer has saved the checkpoint of this step."""
        self._saving = self.last = step

    def judged(self, more: Callable[[], Mapping[str, Any]]) -> None:
        """The row of the step is judged: tag its checkpoint, if it has one, and write the state into it."""
        step, self._saving = self._saving, None
        if step is None:
            return
        path = self.folder / f"global_step_{step}"
        self._watch.saved(path, step)
        self.write(path, {"format": 1, "step": step, "watch": self._watch.state_dict(), **more()})

    def write(self, path: Path, state: Mapping[str, Any]) -> None:
        """Put the state into a checkpoint, off the training thread."""
        data = json.dumps(state, allow_nan=False).encode() + b"\n"
        thread = threading.Thread(target=self._write, args=(path / FILE, data), name="rlwatch-state", daemon=True)
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()

    def _write(self, path: Path, data: bytes) -> None:
        try:
            replace(path, data)
        except OSError as error:
            self._watch.complain(f"the Watch's state is not in {path.parent} ({error}): a resume starts it afresh")

    def close(self) -> None:
        """Give the disk some time for what is being written."""
        for thread in self._threads:
            thread.join(CLOSE_WAIT)

    def read(self, path: Path) -> dict[str, Any] | None:
        """The state in a checkpoint; None where there is none that can be read."""
        self.close()
        try:
            state = json.loads((path / FILE).read_bytes())
            if isinstance(state["watch"], dict):
                return dict(state)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("rlwatch: %s cannot be read (%s): its state starts afresh", path / FILE, error)
        return None

    def of_this_run(self, step: int) -> dict[str, Any] | None:
        """The state in the checkpoint that this run has resumed from, if its first step shows that it did."""
        config = self._trainer.config
        if step < 2 or entry(config, "trainer.resume_mode") == "disable":
            return None
        path = self.folder / f"global_step_{step - 1}"
        if entry(config, "trainer.resume_mode") == "resume_path":
            path = Path(str(entry(config, "trainer.resume_from_path"))).absolute()
        return self.read(path)

    def newest_healthy(self) -> tuple[Path, int] | None:
        """Path and step of the newest that is proven healthy; failing that, of the newest from before the onset.

        What an earlier process has found to be poisoned stays so.
        """
        watch, poisoned = self._watch, self._poisoned()
        unproven: tuple[Path, int] | None = None
        for step, path in sorted(self._whole(), reverse=True):
            row = watch.rows - 1 - (watch.step - (step + 1))
            if row > watch.health.row or path.name in poisoned:
                continue
            standing = watch.health.standing(row)
            if standing is Standing.HEALTHY:
                return path, step
            if standing is Standing.UNPROVEN and unproven is None:
                unproven = path, step
        return unproven

    def _poisoned(self) -> set[str]:
        try:
            return {tag.name for tag in read_tags(self.folder) if tag.health == Standing.POISONED}
        except CheckpointsError:
            return set()

    def _whole(self) -> list[tuple[int, Path]]:
        """Step and path of those with the actor's files: verl's rotation leaves the folder and takes these."""
        found = []
        for path in self.folder.glob("global_step_*"):
            number = path.name.rpartition("_")[2]
            actor = path / "actor"
            if number.isdigit() and actor.is_dir() and any(actor.iterdir()):
                found.append((int(number), path))
        return found
