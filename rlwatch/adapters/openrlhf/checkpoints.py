"""OpenRLHF's checkpoints on disk, and what lies beside each: the state of the Watch when it was made.

`<ckpt.path>/_actor/<tag>/rlwatch.json`, next to OpenRLHF's own `metric.json`: it goes when the checkpoint goes.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlwatch.adapters.openrlhf import workers
from rlwatch.responses.checkpoints import CheckpointsError, read_tags
from rlwatch.responses.health import Standing
from rlwatch.sinks.files import replace

if TYPE_CHECKING:
    from rlwatch.guest import Guest
    from rlwatch.watch import Watch

FILE = "rlwatch.json"
MAX_KEPT = 64


@dataclass
class Checkpoint:
    """A checkpoint on disk.

    Attributes:
        tag: DeepSpeed's name of it, `global_step7` or `best_global_step7`.
        step: the update that its weights are the result of.
        row: whose signals are measured on these weights: that of the next step.
        doubted: the run failed again soon after it went back to this one.
    """

    tag: str
    step: int
    row: int
    doubted: bool = False


class Checkpoints:
    """The checkpoints of one run.

    Attributes:
        changes: gives what rollbacks have changed so far, as JSON values.
    """

    def __init__(self, trainer: Any, watch: Watch, guest: Guest) -> None:
        self.changes: Callable[[], dict[str, Any]] = dict
        self._trainer = trainer
        self._watch = watch
        self._guest = guest
        self._since = time.time() - 1.0  # file systems round
        self._states: dict[str, dict[str, Any]] = {}
        self._doubted: set[str] = set()
        self._ours: set[str] = set()
        self._resumed_at = -1
        self._thread: threading.Thread | None = None

    @property
    def folder(self) -> Path:
        """Where the policy's checkpoints are."""
        return Path(self._trainer.args.ckpt.path) / "_actor"

    # Written

    def saved(self, tag: str, best: bool = False) -> None:
        """Note that OpenRLHF has written a checkpoint of the present weights under this tag, if it has."""
        due = best or self._watch.step % self._trainer.args.ckpt.save_steps == 0
        if not due or self._trainer.args.ckpt.disable_ds or tag in self._states:
            return
        place = self.folder / tag
        if not place.is_dir() or place.stat().st_mtime < self._since:
            return
        self._states[tag] = state = {
            "format": 1,
            "step": self._watch.step,
            "watch": self._watch.state_dict(),
            "kl_coef": float(self._trainer.kl_ctl.value),
            "changes": self.changes(),
        }
        self._ours.add(tag)
        for old in list(self._states)[:-MAX_KEPT]:
            del self._states[old]
        self._thread = threading.Thread(
            target=self._write, args=(place, json.dumps(state).encode()), name="rlwatch-checkpoint", daemon=True
        )
        self._thread.start()
        self._watch.saved(place)

    def _write(self, place: Path, data: bytes) -> None:
        try:
            if place.is_dir():
                replace(place / FILE, data)
        except OSError as error:
            self._guest.complain("rlwatch.json", f"the detectors' state is not saved beside {place}: {error}")

    def save_last(self, step: int, client_states: Any) -> str | None:
        """Write a checkpoint now and delete none; its path. A resume does not go on from it, if there is another."""
        trainer, tag = self._trainer, f"global_step{step}"
        if trainer.args.ckpt.disable_ds:
            return None
        latest = not (self.folder / "latest").exists()
        workers.call(trainer.actor_model_group, workers.save, "_actor", tag, dict(client_states or {}), latest)
        if trainer.critic_model_group is not None:
            workers.call(trainer.critic_model_group, workers.save, "_critic", tag, {}, latest)
        self.saved(tag, best=True)
        return str(self.folder / tag)

    def advise(self) -> str:
        """Let `--ckpt.load_enable` go on from the newest healthy checkpoint; what was found, in words."""
        found = [each for each in self.good() if not each.doubted]
        if not found:
            return ""
        newest = found[0]
        for folder in (self.folder, self.folder.with_name("_critic")):
            if (folder / newest.tag).is_dir():
                replace(folder / "latest", newest.tag.encode())
        return f"--ckpt.load_enable goes on from {self.folder / newest.tag}, the newest healthy checkpoint"

    # Read

    def good(self) -> list[Checkpoint]:
        """Those to go back to, newest first: proven healthy, and after them those from before any trouble."""
        proven: list[Checkpoint] = []
        unproven: list[Checkpoint] = []
        poisoned = self._poisoned()
        for each in self._there():
            standing = self._watch.health.standing(each.row)
            if each.row > self._watch.health.row or each.tag in poisoned:
                continue
            if standing is Standing.HEALTHY:
                proven.append(each)
            elif standing is Standing.UNPROVEN:
                unproven.append(each)
        return proven + unproven

    def _there(self) -> list[Checkpoint]:
        """Of this run, and of those that it resumes: another's may lie in the same folder."""
        found = []
        for path in self.folder.glob("*global_step*"):
            number = path.name.rpartition("global_step")[2]
            if not number.isdigit() or not path.is_dir():
                continue
            step = int(number)
            if path.name in self._ours or step <= self._resumed_at:
                row = self._watch.rows - (self._watch.step - step)
                found.append(Checkpoint(path.name, step, row, path.name in self._doubted))
        return sorted(found, key=lambda each: each.step, reverse=True)

    def _poisoned(self) -> set[str]:
        """By what an earlier process has found out."""
        try:
            return {tag.name for tag in read_tags(self.folder) if tag.health == Standing.POISONED}
        except CheckpointsError:
            return set()

    def doubt(self, checkpoints: list[Checkpoint]) -> None:
        """Remember which have proven no better."""
        self._doubted.update(each.tag for each in checkpoints if each.doubted)

    def state_of(self, tag: str) -> dict[str, Any]:
        """What lies beside a checkpoint; {} where there is nothing that can be read."""
        if tag in self._states:
            return self._states[tag]
        try:
            state = json.loads((self.folder / tag / FILE).read_bytes())
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) and state.get("format") == 1 else {}

    def resume(self, states: Any) -> Mapping[str, Any] | None:
        """Go on from the state beside the checkpoint that OpenRLHF resumes from; what rollbacks had changed by then."""
        step = int((states or {}).get("global_step", 0))
        if step == 0:
            return None
        self._resumed_at = step
        try:
            tag = (self.folder / "latest").read_text().strip()
        except OSError:
            tag = f"global_step{step}"
        state = self.state_of(tag)
        if state.get("step") != step or not isinstance(state.get("watch"), dict):
            self._guest.note(f"resumed at step {step} without rlwatch's state: the baselines are learnt anew")
            return None
        self._watch.load_state_dict(state["watch"])
        return dict(state.get("changes") or {})

    def close(self) -> None:
        """Give the disk time for what was written last."""
        if self._thread is not None:
            self._thread.join(5.0)
