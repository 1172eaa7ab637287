"""One training run: its Watch, the row of each step, the decision on it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from rlwatch.adapters.openrlhf import workers
from rlwatch.adapters.openrlhf.checkpoints import Checkpoints
from rlwatch.adapters.openrlhf.ending import end_data
from rlwatch.adapters.openrlhf.fixes import hints_for, penalised, preset_of
from rlwatch.adapters.openrlhf.going_back import GoingBack
from rlwatch.adapters.openrlhf.inbox import Inbox
from rlwatch.adapters.openrlhf.norms import POLICY, VALUE, measure, taken
from rlwatch.adapters.openrlhf.samples import Samples
from rlwatch.adapters.openrlhf.terms import Terms
from rlwatch.adapters.openrlhf.withholding import withhold
from rlwatch.adapters.seams import Seams
from rlwatch.alert import Verdict
from rlwatch.guest import Guest
from rlwatch.watch import Watch

if TYPE_CHECKING:
    from rlwatch.responses.rollback import Outcome

logger = logging.getLogger("rlwatch")

TEXT = "generated_samples"
"""The one entry of a step's metrics that is no number."""

UNMEASURED = ("kl", "logprobs_diff")


def begin(trainer: Any, terms: Terms) -> Session | None:
    """The session of a trainer that has just been made; None where ours fails, and the run goes on unwatched."""
    try:
        return Session(trainer, terms)
    except Exception as error:
        if terms.settings.get("strict"):
            raise
        Guest().failed("watching this run", error)
        return None


class Session:
    """Sees every step of one trainer.

    Args:
        trainer: a `PPOTrainer`, or a `TrainingActor`, in the actor where it trains.
        terms: what the driver has settled.

    Attributes:
        watch: the Watch of the run.
        going_back: the rollbacks; None unless `on_critical="rollback"`.
        inbox: in async training, the queues.
    """

    def __init__(self, trainer: Any, terms: Terms) -> None:
        settings = {"preset": preset_of(trainer.args), **terms.settings}
        self.trainer = trainer
        self.watch = Watch(detectors=terms.detectors, **settings)
        self.watch.hints.update(hints_for(trainer.args))
        self.watch.info.update(trainer=type(trainer).__name__, frameworks=_versions(), lost=dict(terms.missing))
        self.halted = False
        self.inbox: Inbox | None = None
        self._terms = terms
        self._guest = Guest(bool(self.watch.settings.strict))
        self._verdict = Verdict(-1)
        self._step = 0
        self._seams = Seams(self._guest)
        self._samples = Samples(trainer.tokenizer, int(trainer.args.rollout.n_samples_per_prompt), self._guest.failed)
        maker = getattr(trainer, "experience_maker", None)
        if not self._seams.add(maker, "make_experience_batch", self._on_experiences):
            logger.warning("rlwatch: no experience maker found; lost: rewards, advantages and lengths of each sample")
        if hasattr(trainer, "rollout_queue") and hasattr(trainer, "rollout_slots"):
            self.inbox = trainer.rollout_queue = Inbox(trainer.rollout_queue, trainer.rollout_slots)
        self.checkpoints = Checkpoints(trainer, self.watch, self._guest)
        self.going_back: GoingBack | None = None
        if self.watch.settings.on_critical == "rollback":
            self.going_back = GoingBack(trainer, self.watch, self.checkpoints, self.inbox, terms.remedies)
            self.checkpoints.changes = self.going_back.export

    # A step

    def begin_step(self, global_step: int) -> None:
        """Before a batch of rollouts is made into experience."""
        self._step = global_step

    def _on_experiences(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        self._samples.begin(result)

    def judge(self, step: int, status: Any) -> bool:
        """The step is complete: whether something must be done about it.

        Args:
            step: as OpenRLHF counts it, from 1: its metrics were measured while these weights were made.
            status: its metrics; what rlwatch has sent along in them is taken out.
        """
        verdict = self._guest.attempt("the judgement of a step", self._judge, step, status, taken(status))
        self._verdict = verdict if isinstance(verdict, Verdict) else Verdict(step)
        return not self.halted and (self._verdict.halt or self._verdict.rollback)

    def _judge(self, step: int, status: Any, norms: dict[str, float]) -> Verdict:
        args = self.trainer.args
        row = {**{key: value for key, value in dict(status or {}).items() if key != TEXT}, **norms}
        if penalised(args):
            row["kl_coef"] = float(self.trainer.kl_ctl.value)
            if args.algo.kl.target:
                row["kl_target"] = float(args.algo.kl.target)
        else:
            for key in UNMEASURED:
                row.pop(key, None)
        if self.inbox is not None and self.inbox.sampled_at is not None:
            row["staleness"] = float(self._step - self.inbox.sampled_at)
        row.update(self._samples.take())
        if self.going_back is not None:
            self.going_back.seen(row)
        return self.watch.log(row, step=step)

    # What is done

    @contextmanager
    def unsaved(self) -> Iterator[None]:
        """OpenRLHF logs this step and does not save it."""
        args = self.trainer.args.ckpt
        every, args.save_steps = args.save_steps, math.inf
        try:
            yield
        finally:
            args.save_steps = every

    def act(self, client_states: Any) -> None:
        """Go back, or stop."""
        verdict = self._verdict
        if verdict.rollback and self.going_back is not None:
            outcome: Outcome | None = self._guest.attempt("going back", self.going_back.respond, verdict)
            if outcome is not None and outcome.done:
                return
            self._halt(verdict, outcome.note if outcome is not None else "going back failed", client_states)
        else:
            self._halt(verdict, "", client_states)

    def _halt(self, verdict: Verdict, why: str, client_states: Any) -> None:
        if not self._terms.stoppable:
            self.watch.complain("this run cannot be halted: only openrlhf.install() reaches the actor that samples")
            return
        self.halted = True
        criticals = [alert for alert in verdict.alerts if alert.critical]
        reason = why or "; ".join(f"{alert.detector}: {alert.message}" for alert in criticals) or verdict.note
        saved = self._guest.attempt("the last checkpoint", self.checkpoints.save_last, verdict.step, client_states)
        advice = self._guest.attempt("the healthy checkpoint", self.checkpoints.advise) or ""
        note = f"halting after step {verdict.step}: {reason}; {advice or 'no healthy checkpoint is known'}"
        if not self.watch.settings.console:
            logger.warning("rlwatch: %s", note)
        self._guest.attempt("telling of a halt", self._tell, verdict.step, note, saved)
        if self.inbox is not None:
            self._guest.attempt("the halt", self.inbox.halt)
        else:
            end_data(self.trainer.samples_generator)

    def _tell(self, step: int, note: str, saved: Any) -> None:
        from ray.experimental.internal_kv import _internal_kv_put

        self.watch.announce("halt", step, note, checkpoint=saved)
        _internal_kv_put(self._terms.halted, note.encode())

    # Around it

    def saved(self, tag: str, *, best: bool = False) -> None:
        """OpenRLHF may have written a checkpoint under this tag."""
        self._guest.attempt("a checkpoint's state", self.checkpoints.saved, tag, best)

    def resume(self, states: Any) -> None:
        """A run begins, anew or from a checkpoint; its models are there."""
        if self.watch.settings.on_nonfinite == "skip":
            self._guest.attempt("withholding", self._withhold)
        self._guest.attempt("the norms of updates", self._measure)
        changed = self._guest.attempt("resuming", self.checkpoints.resume, states)
        if self.going_back is not None:
            self._guest.attempt("resuming", self.going_back.resumed, changed or {})

    def _withhold(self) -> None:
        for group in (self.trainer.actor_model_group, self.trainer.critic_model_group):
            if group is not None and not all(workers.call(group, withhold)):
                self.watch.complain("this OpenRLHF's strategy has no backward(); lost: a NaN reaches the weights")

    def _measure(self) -> None:
        """In the workers, which may be those of an earlier run and do so already."""
        for group, role in ((self.trainer.actor_model_group, POLICY), (self.trainer.critic_model_group, VALUE)):
            if group is not None:
                workers.call(group, measure, role)

    def pause(self) -> AbstractContextManager[None]:
        """A time in which no step comes, and that is no stall."""
        return self._guest.attempt("a pause", self.watch.pause) or nullcontext()

    def end(self) -> None:
        """The run is over."""
        for close in (self._samples.wait, self._seams.remove, self.checkpoints.close, self.watch.close):
            self._guest.attempt("the end of a run", close)


def _versions() -> dict[str, str]:
    found = {}
    for name in ("openrlhf", "ray", "deepspeed"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
