"""The callback that puts rlwatch into a TRL (or any Hugging Face) trainer."""

from __future__ import annotations

import logging
import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transformers.trainer_callback import ExportableState, TrainerCallback

from rlwatch.adapters.trl import saved
from rlwatch.adapters.trl.families import detached_hints, hints_for, watch_for
from rlwatch.adapters.trl.find import find_trainer, owns, tensorboard_of
from rlwatch.adapters.trl.going_back import GoingBack
from rlwatch.adapters.trl.metrics import evaluation_of
from rlwatch.adapters.trl.session import Session
from rlwatch.alert import Verdict
from rlwatch.config import load_settings
from rlwatch.guest import Guest
from rlwatch.ranks import Ranks
from rlwatch.responses.remedy import Pharmacy
from rlwatch.signals import is_step
from rlwatch.watch import Watch

logger = logging.getLogger("rlwatch")

MARK = "_rlwatch_callback"
"""The trainer's attribute that names its callback, so that one trainer has one."""


class RLWatchCallback(TrainerCallback, ExportableState):
    """Watches every optimizer step of a TRL trainer: `GRPOTrainer(..., callbacks=[RLWatchCallback()])`.

    | what | where it comes from |
    |---|---|
    | loss of all micro-batches and ranks, NaN included | `training_step` |
    | grad_norm before clipping | `_get_grad_norm` |
    | kl, entropy, clip ratios, reward, lengths, ... | `trainer._metrics["train"]`, this step's own values |
    | eval_* | the log of an evaluation; they go with the next step |
    | norms of the update before, every tenth step | the optimizer's step hooks |
    | rewards by function, advantages, completions | `_calculate_rewards`, `_generate_and_score_completions` |

    The step is judged in `on_pre_optimizer_step`: a non-finite loss or gradient never reaches the weights (the
    gradients become None; the step count and the learning rate go on), and a halt stops the run at the end of
    that step, with a checkpoint unless `save_strategy="no"`. All ranks decide together: put the callback on each.
    With `on_critical="rollback"` a critical takes the run back to its last healthy state at the end of that step:
    weights, optimizer, schedule, gradient scaler, random generators, a reference model that follows the policy. What
    is left of its rollouts is dropped, a remedy is applied to the live trainer (learning rate, `beta`, `max_grad_norm`,
    `epsilon_low` and `epsilon_high`, `num_iterations`, the rewards' bound), and training goes on: the data and
    `global_step` forward. Where the engine cannot do that (DeepSpeed, FSDP1) the run stops and names the
    checkpoint to resume from; `rlwatch.train(trainer)` does that too.
    The detectors' state rides in the checkpoint, and `resume_from_checkpoint` goes on with it. The preset follows
    from the trainer's class (`grpo` for GRPO and RLOO, `dpo` for DPO, KTO and OnlineDPO) unless one is given.

    Args:
        preset, on_critical, **settings: as for `rlwatch.Watch`.
        watch: an existing Watch to use instead; it is neither closed nor replaced here.
        remedies: the user's own: a function `(context) -> str | None` that changes something and says what
            (`rlwatch.responses.cures.Context`), or a dict detector -> function.

    Attributes:
        watch: the Watch, from the beginning of training on; None before.
        advice: the checkpoint to resume from, after a `train()` that stopped because it could not go back; else None.

    Raises:
        ConfigError: a setting is unknown or out of range.
        ValueError: a remedy is no function. Nothing raises after construction, unless `strict`.
    """

    def __init__(
        self,
        preset: str | None = None,
        on_critical: str | None = None,
        *,
        watch: Watch | None = None,
        remedies: Any = None,
        **settings: Any,
    ) -> None:
        Pharmacy(remedies)
        given = {"preset": preset, "on_critical": on_critical, **settings}
        self._settings = {name: value for name, value in given.items() if value is not None}
        if watch is not None and self._settings:
            raise ValueError("give RLWatchCallback either watch= or settings, not both")
        self._guest = Guest((load_settings(**self._settings) if watch is None else watch.settings).strict)
        self._given = watch
        self.watch: Watch | None = watch
        self._trainer_ref: weakref.ref[Any] | None = None
        self._double_of: RLWatchCallback | None = None
        self._remedies = remedies
        self._session: Session | None = None
        self._last: GoingBack | None = None
        self._back: Verdict | None = None
        self._begun = False
        self._halt = False
        self._pause = ExitStack()
        self._row = -1

    # Hugging Face's events

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The first event in which the trainer can be found."""
        self._guest.attempt("finding the trainer", self._find)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A `train()` begins: the seams are opened."""
        self._begin(state)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An optimizer step begins, before its rollouts."""
        if not self._begun:  # added while training was under way
            self._begin(state)
        self._pause.close()
        if self._session is not None:
            self._guest.attempt("on_step_begin", self._session.begin_step)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The gradients are ready and the weights have not changed yet: the step is judged."""
        if self._session is not None:
            self._guest.attempt("on_pre_optimizer_step", self._decide, state, kwargs["optimizer"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Where a stop takes effect at this very step, and a way back begins: the trainer is done with the step."""
        back, self._back = self._back, None
        if back is not None and self._session is not None:
            self._halt |= not self._session.go_back(back)
        if self._halt:
            control.should_training_stop = True
            # Where a healthy checkpoint is to be resumed from, a sick one must not push it out of `save_total_limit`.
            control.should_save = args.save_strategy != "no" and not self._stopped_to_resume()
        if (control.should_evaluate or control.should_save) and self.watch is not None:
            self._pause.enter_context(self.watch.pause())  # an evaluation or a save is no stall
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Used only where the step is out of sight: no trainer found, or one with a loop of its own."""
        if self._session is not None and logs:
            self._guest.attempt("the metrics of an evaluation", self._session.evaluated, evaluation_of(logs))
        unseen = self._begun and self._double_of is None and state.global_step > self._row
        if unseen and logs and is_step(logs):
            self._guest.attempt("on_log", self._judge_log, args, state, control, dict(logs))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A checkpoint was written: it is tagged healthy, suspect or poisoned from now on."""
        if self.watch is not None and self._double_of is None:
            self.watch.saved(Path(args.output_dir) / f"checkpoint-{state.global_step}", state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A `train()` ends: the trainer's methods are its own again."""
        self._guest.attempt("on_train_end", self._end)

    def state(self) -> dict[str, Any]:
        """What Hugging Face writes into `trainer_state.json`; never raises."""
        if self._double_of is not None:
            return self._double_of.state()
        going_back = None if self._session is None else self._session.going_back
        return saved.exported(
            self._settings, self.watch, self._guest, None if going_back is None else going_back.export
        )

    # A run

    def bind(self, trainer: Any) -> None:
        """Belong to this trainer, from the first event on, or from `attach`."""
        other = getattr(trainer, MARK, None)
        if other is not None and other is not self:
            if owns(trainer, other):
                if self._double_of is None:
                    logger.warning("rlwatch: this trainer has two RLWatchCallbacks; the second does nothing")
                self._double_of = other
                return
            if saved.KEY in vars(self):
                # Hugging Face has made this copy of the user's instance and put it in its place (see saved.py):
                # be that one, so that whoever holds it still sees the run.
                self.__dict__ = other.__dict__
        if self._trainer is not trainer and self._given is None:
            self.watch = None  # another trainer's baselines say nothing here
        if self._trainer is not trainer:
            self._last = None
        self._trainer_ref = weakref.ref(trainer)
        setattr(trainer, MARK, self)

    @property
    def advice(self) -> str | None:
        """The checkpoint to resume from."""
        return None if self._last is None else self._last.advice

    def _stopped_to_resume(self) -> bool:
        return self._last is not None and self._last.stopped

    @property
    def _trainer(self) -> Any:
        """The trainer, not kept alive by us: its model's memory is freed although the callback is still held."""
        return None if self._trainer_ref is None else self._trainer_ref()

    def _find(self) -> None:
        trainer = find_trainer(self, self._trainer)
        if trainer is not None:
            self.bind(trainer)

    def _begin(self, state: Any) -> None:
        saved.make_room(state, type(self).__name__)
        self._guest.attempt("finding the trainer", self._find)
        self._end_session()
        self._begun, self._halt, self._back, self._row = True, False, None, -1
        if self._double_of is None:
            self._guest.attempt("on_train_begin", self._start, state)

    def _start(self, state: Any) -> None:
        trainer = self._trainer
        if self._given is None:
            self.watch = watch_for(trainer, self._settings, self.watch, bool(state.is_world_process_zero))
        assert self.watch is not None
        changed = saved.restore(state, type(self).__name__, self.watch)
        if trainer is None:
            self.watch.hints.update(detached_hints())
            logger.warning(
                "rlwatch: no trainer object found: it sees only what is logged every logging_steps, without "
                "samples, and cannot keep a NaN from the weights; rlwatch.attach(trainer) repairs that"
            )
            return
        self.watch.hints.update(hints_for(trainer))
        self.watch.info["trainer"] = type(trainer).__name__
        self.watch.trackers["tensorboard"] = lambda: tensorboard_of(self._trainer)
        ranks = Ranks(trainer.accelerator.device)
        self._session = session = Session(trainer, self.watch, self._guest, ranks, self._remedies)
        before, self._last = self._last, session.going_back
        if session.going_back is not None and changed is not None:
            session.going_back.resumed(changed, before)
        ranks.meet()  # last: a rank that failed before this is not counted on
        if session.going_back is not None:
            session.going_back.met()

    def _decide(self, state: Any, optimizer: Any) -> None:
        assert self._session is not None
        self._row = state.global_step + 1  # the number that Hugging Face gives this step when it is done
        decision = self._session.decide(self._row, optimizer)
        self._halt |= decision.halt
        self._back = decision.back

    def _judge_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any]) -> None:
        if self.watch is not None:
            self._row = state.global_step
            verdict = self.watch.log(logs, step=self._row)
            if (verdict.halt or verdict.rollback) and args.world_size == 1:  # several ranks could not agree here
                control.should_training_stop = True

    def _end(self) -> None:
        self._end_session()
        self._begun = False
        if self.watch is not None and self._given is None:
            self.watch.close()

    def _end_session(self) -> None:
        self._pause.close()
        session, self._session = self._session, None
        if session is not None:
            session.end()

    def __getstate__(self) -> dict[str, Any]:
        """Pickled and copied as it was constructed: a live run stays with the trainer that it belongs to."""
        return {"settings": self._settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["settings"])  # type: ignore[misc]
