"""The actor: rows of many reporters, joined by step, judged by one Watch, one verdict for all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from rlwatch.adapters.ray.joining import join
from rlwatch.adapters.ray.keeping import Keep
from rlwatch.alert import Action, Verdict
from rlwatch.watch import Watch

logger = logging.getLogger("rlwatch")

REMEMBERED = 64
"""Steps whose verdict is still known for those who come late."""

SAVE_SECONDS = 1.0
"""Seconds between two saves of the state, while nothing is decided but to go on."""


class Joint:
    """A step that is being joined."""

    def __init__(self) -> None:
        self.rows: dict[str, Mapping[str, Any]] = {}
        self.turns: dict[str, int] = {}
        self.decided = asyncio.Event()
        self.verdict: Verdict | None = None
        self.timer: asyncio.TimerHandle | None = None


class Gatherer:
    """Waits for all reporters of a step, at most `patience` seconds, and judges once.

    A reporter that is not there in time is told as an event and not waited for any more until it reports again: a dead
    worker costs one time-out. One that has reported a later step will not report this one, and is not waited for
    either; one that reports a step again has gone back, as after a resume, and is judged from there. Once a verdict
    halts, every later one does.

    Args:
        settings: of the `Watch`.
        reporters: how many there will be; None: those that have joined so far.
        patience: seconds.
        keep: where the state is kept for the case that this actor dies.
    """

    def __init__(self, settings: Mapping[str, Any], reporters: int | None, patience: float, keep: Keep | None) -> None:
        self.watch = Watch(**settings)
        self.members: dict[str, int] = {}
        self.absent: set[str] = set()
        self._judged: dict[str, int] = {}
        self._unborn = reporters or 0
        self._patience = patience
        self._keep = keep
        self._open: dict[int, Joint] = {}
        self._verdicts: deque[Verdict] = deque(maxlen=REMEMBERED)
        self._halt: Verdict | None = None
        self._last = -(2**62)
        self._saved = 0.0
        self._restore()

    # What reporters call

    async def join(self, reporter: str) -> None:
        """A reporter is there; a worker that was started again comes under its old name and counts anew."""
        self._judged.pop(reporter, None)
        self._is_there(reporter)

    def _is_there(self, reporter: str) -> None:
        if reporter not in self.members:
            self.members[reporter] = -(2**62)
            self._unborn = max(0, self._unborn - 1)
        self.absent.discard(reporter)

    async def report(self, reporter: str, turn: int, step: int, row: Mapping[str, Any]) -> Verdict:
        """A reporter's row; the verdict on the step comes when all rows are there, or the patience has run out.

        Args:
            turn: the reporter's own count of its rows: Ray sends a row again when the actor dies before it answers.
        """
        self._is_there(reporter)
        if turn <= self._judged.get(reporter, -1):
            return self._known(step)
        if step <= self.members[reporter] and step <= self._last:
            self._last = step - 1  # it has gone back
        self.members[reporter] = step
        if step <= self._last:
            self._judged[reporter] = turn
            return self._known(step)
        joint = self._open.get(step)
        if joint is None:
            joint = self._open[step] = Joint()
            joint.timer = asyncio.get_running_loop().call_later(self._patience, self._time_out, step)
        joint.rows[reporter], joint.turns[reporter] = row, turn
        self._decide_complete()
        await joint.decided.wait()
        return joint.verdict or Verdict(step)

    async def leave(self, reporter: str) -> bool:
        """A reporter is done; whether it was the last, and the run is over."""
        self.members.pop(reporter, None)
        self._judged.pop(reporter, None)
        self.absent.discard(reporter)
        self._decide_complete()
        if self.members.keys() - self.absent or self._open:
            return False
        self.watch.close()
        if self._keep is not None:
            self._keep.forget()
        return True

    async def status(self) -> dict[str, Any]:
        """Who reports, who does not any more, and what the Watch has seen."""
        return {
            "reporters": sorted(self.members.keys() - self.absent),
            "absent": sorted(self.absent),
            "rows": self.watch.rows,
            "step": self.watch.step,
            "alerts": [alert.as_dict() for alert in self.watch.alerts],
            "events": list(self.watch.events),
            "coverage": self.watch.coverage().as_dict(),
            "run_dir": self.watch.run_dir,
        }

    # Deciding

    def _missing(self, step: int) -> set[str]:
        """Who may still give a row for this step."""
        present = self.members.keys() - self.absent
        return {name for name in present if self.members[name] < step}

    def _decide_complete(self) -> None:
        """Judge the steps, in their order, for which nobody is waited for."""
        for step in sorted(self._open):
            if self._unborn or self._missing(step):
                break
            self._decide(step)

    def _time_out(self, step: int) -> None:
        """The patience for a step has run out: those who are missing are not waited for any more."""
        if step not in self._open:
            return
        for name in sorted(self._missing(step)):
            self.absent.add(name)
            seen = self.members[name]
            since = f"since step {seen}" if seen >= 0 else "yet"
            self._announce(step, f"{name} has not reported {since}: it is not waited for")
        if self._unborn:
            self._announce(step, f"{self._unborn} of the expected reporters never came: they are not waited for")
            self._unborn = 0
        for earlier in sorted(each for each in self._open if each <= step):
            self._decide(earlier)
        self._decide_complete()

    def _decide(self, step: int) -> None:
        joint = self._open.pop(step)
        if joint.timer is not None:
            joint.timer.cancel()
        self._last = max(self._last, step)
        self._judged.update(joint.turns)
        try:
            joint.verdict = self._judge(step, joint.rows)
        except Exception as error:  # noqa: BLE001 - no reporter may be left waiting
            logger.warning("rlwatch: the rows of step %d cannot be joined: %s: %s", step, type(error).__name__, error)
        joint.decided.set()

    def _judge(self, step: int, rows: Mapping[str, Mapping[str, Any]]) -> Verdict:
        verdict = self.watch.log(join(rows), step=step)
        if verdict.halt and self._halt is None:
            self._halt = verdict
        verdict = self._with_halt(verdict)
        self._verdicts.append(verdict)
        self._save(at_once=verdict.action is not Action.CONTINUE or bool(verdict.alerts))
        return verdict

    def _known(self, step: int) -> Verdict:
        """The verdict on a step that was decided without this reporter."""
        found = next((verdict for verdict in reversed(self._verdicts) if verdict.step == step), Verdict(step))
        return self._with_halt(found)

    def _with_halt(self, verdict: Verdict) -> Verdict:
        if self._halt is None or verdict.halt:
            return verdict
        note = f"halted at step {self._halt.step}"
        return Verdict(verdict.step, verdict.alerts, Action.HALT, verdict.poisoned, note)

    def _announce(self, step: int, sentence: str) -> None:
        logger.warning("rlwatch: %s", sentence)
        self.watch.announce("reporter", step, sentence)

    # Across a restart

    def _save(self, at_once: bool) -> None:
        now = time.monotonic()
        if self._keep is None or (not at_once and now - self._saved < SAVE_SECONDS):
            return
        self._saved = now
        state = {
            "watch": self.watch.state_dict(), "members": self.members, "absent": self.absent, "last": self._last,
            "judged": self._judged, "verdicts": list(self._verdicts), "halt": self._halt,
        }  # fmt: skip
        try:
            self._keep.save(state)
        except Exception as error:  # noqa: BLE001 - a restart would begin afresh, no more
            logger.warning("rlwatch: the gatherer's state cannot be kept: %s: %s", type(error).__name__, error)
            self._keep = None

    def _restore(self) -> None:
        state = self._keep.load() if self._keep is not None else None
        if state is None:
            return
        self.watch.load_state_dict(state["watch"])
        self.members, self.absent, self._last = state["members"], state["absent"], state["last"]
        self._judged = state["judged"]
        self._verdicts.extend(state["verdicts"])
        self._halt = state["halt"]
        self._unborn = 0
        self._announce(self._last, f"the gatherer was started again; it goes on from step {self._last}")
