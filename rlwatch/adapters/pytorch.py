"""A raw PyTorch loop: the guard that keeps poisoned updates from the weights and takes a broken run back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from rlwatch.adapters.step_norms import StepNorms, critic_of
from rlwatch.alert import Action, Verdict
from rlwatch.guest import Guest, logger
from rlwatch.responses.council import Council, settle_together
from rlwatch.responses.decision import NOBODY
from rlwatch.responses.gradient_check import GradientCheck
from rlwatch.responses.skip import gradients, nonfinite, parameters, withhold

if TYPE_CHECKING:
    from rlwatch.responses.rollback import Rollback

Nonfinite = Literal["auto", "wait", "off"]

_PART = "guard"


class Guard:
    """Acts on verdicts in a raw PyTorch loop: withholds updates, and takes a broken run back; made by `Watch.guard`.

    ::

        guard = watch.guard(model, optimizer)
        for batch in batches:
            loss = ...
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            verdict = watch.log(loss=loss, grad_norm=norm, ...)
            if guard.step(verdict):
                continue
            if verdict.halt:
                break
            optimizer.step()
            scheduler.step()

    Besides acting on verdicts it looks at the gradients before every `optimizer.step()`, because the verdict
    on values from an accelerator comes a step late:

    - Gradients on the CPU: a step with a NaN or an infinity in them is skipped exactly; neither the weights
      nor the optimizer's state change.
    - On an accelerator the check stays there and the host does not wait. A fused optimizer (`fused=True`)
      skips such a step exactly, as under a GradScaler. Any other is given zero gradients: the weights and the
      state stay finite, but momentum and weight decay still act for that step, and step counters advance.
    - With an enabled GradScaler the scaler does all of this, and nothing is added.

    How far the updates move the weights is measured every few of them (`rlwatch.adapters.step_norms`); the norms go
    with the next row that is logged.

    Each optimizer is checked by itself. What it computes inside a closure (LBFGS) is not seen. A step
    recorded into a CUDA graph is not checked. The check reads every gradient once, as `clip_grad_norm_` does.

    With several processes, make the guard on every rank and call `step` on each at every step: it takes one
    reduction of a few integers between the hosts, and then all ranks do the same. A non-finite loss or gradient on
    one of them withholds the update of all (on an accelerator, where the host does not wait for the gradients, this
    holds for what the ranks share: DDP's gradients, or a norm clipped over all FSDP shards), and the strongest action
    that one asks for is everyone's. Where rlwatch is missing on a rank, or a rank has died, nothing is acted on but
    that check of the gradients.

    With `on_critical="rollback"` a critical alert takes the run back to its last healthy state, changes something
    (`rlwatch.responses.remedy`) and lets it go on, with the next batch: `step` returns True, the loop's `continue` does
    the rest, and the step count goes on. Healthy is a state that no alert was traced to although the detectors'
    lag has passed (`rlwatch.responses.health`); the one that the run began with needs no proof. Put back are weights,
    optimizer, scheduler, scaler, `state`, `knobs`, the generators of `random`, `numpy` and `torch`, and the
    detectors' own baselines: what follows is bit for bit what a run from that state with that remedy gives. States
    are kept in host memory, as often as costs less than 2 % of a step's time.

    Where that is no use the run halts (`verdict.halt`, the reason in `verdict.note`): the budget is used up, the same
    failure came back at the same place, no state is proven healthy yet, or going back cannot cure it. Leave the
    script with `sys.exit(rlwatch.EXIT_HALTED)` then.

    Args:
        model: the module whose gradients are dropped, or None.
        optimizer: the optimizer, or a sequence of them; without one only verdicts protect the weights.
        scheduler: the learning-rate scheduler. A withheld step leaves it alone, and `continue` passes over
            `scheduler.step()`: the schedule then counts updates. Step it before `continue` to count batches.
        scaler: the GradScaler, if the loop uses one.
        nonfinite: "auto" as described; "wait" makes the host wait for the check on an accelerator too, so
            that every optimizer skips exactly; "off" leaves everything to the verdicts.
        guest: where failures of the guard itself are noted. It never raises into the loop: it stands aside.
        rollback: what goes back (`rlwatch.adapters.torch_rollback`); without it, a verdict to roll back halts.
        council: the ranks, which all do the same.
        critic: the module, or the parameters, that predict values; None: what is named so in `model`.

    Attributes:
        rollback: takes the snapshots and goes back; None unless `on_critical="rollback"`.
        skipped: updates withheld so far. Those found on an accelerator are counted a step or so later.
        consecutive: how many of the last updates in a row were withheld.

    Raises:
        ValueError: `nonfinite` has another value.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any = None,
        scheduler: Any = None,
        scaler: Any = None,
        *,
        nonfinite: Nonfinite = "auto",
        guest: Guest | None = None,
        rollback: Rollback | None = None,
        council: Council | None = None,
        critic: Any = None,
    ) -> None:
        if nonfinite not in ("auto", "wait", "off"):
            raise ValueError(f"nonfinite must be 'auto', 'wait' or 'off', got {nonfinite!r}")
        self.model = model
        self.optimizers = [_unwrapped(each) for each in _as_list(optimizer)]
        self.scheduler = scheduler
        self.scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self.nonfinite = nonfinite
        self.skipped = 0
        self.consecutive = 0
        self.rollback = rollback
        self.council = council or Council()
        self._by_hand = self._wanted = False
        self._guest = guest or Guest()
        self._checks: list[GradientCheck] = []
        if nonfinite != "off" and self.scaler is None:
            for each in self.optimizers:
                self._watch_steps(each)
        self._norms = self._measure(critic)

    def step(self, verdict: Verdict, *, position: Any = None) -> bool:
        """Act on a verdict, after `backward` and before `optimizer.step()`.

        Args:
            verdict: of this step, from `Watch.log`.
            position: where in the data the loop is (an index into the epoch, say), if it knows: a failure that comes
                back at the same position is the data's, and halts.

        Returns:
            True when this update is withheld, or the run was taken back: the gradients are gone, the GradScaler is
            updated, and the loop should `continue`. False otherwise; `verdict.halt` is then set where going back
            was asked for and is no use. For a poisoned verdict that also halts, the gradients are
            dropped and it is still False, so that the `if verdict.halt: break` that follows is reached. On an
            accelerator a poisoned verdict gives False: it comes late, and the check of the gradients withheld
            that update when it was due.
        """
        due = self._due(verdict)
        if self.council.meet():
            poisoned = verdict.skip and verdict.poisoned
            poisoned = poisoned or self._guarded("the check of gradients", self._bad_gradients)
            broken = self._guest.off(_PART) or (verdict.rollback and self.rollback is None)
            due = settle_together(verdict, self.council, poisoned=poisoned, broken=broken, due=due)
        withheld = False
        if not self._guest.off(_PART):
            try:
                withheld = self._take_back(verdict, position) if verdict.rollback else self._step(verdict)
            except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
                self._guest.failed(_PART, error)
        if verdict.rollback and not withheld:
            verdict.settle(Action.HALT, verdict.note or NOBODY)
        if self.rollback is not None and not withheld:
            self._let_through(self.rollback, verdict, due)
        return withheld

    def _due(self, verdict: Verdict) -> bool:
        """Whether this is a step to take a snapshot at."""
        if self.rollback is None or verdict.critical or verdict.poisoned:
            return False
        return self.rollback.snapshots.due(self.rollback.watch.rows - (not self._by_hand))

    def _bad_gradients(self) -> bool:
        """Whether a gradient that the host can look at without waiting holds a NaN or an infinity."""
        if self.nonfinite == "off" or self.scaler is not None:
            return False
        grads = [grad for each in self.optimizers for grad in gradients(each)]
        if self.nonfinite != "wait":
            grads = [grad for grad in grads if grad.device.type == "cpu"]
        return any(bool(flag) for flag in nonfinite(grads))

    def _guarded(self, part: str, ours: Callable[[], bool]) -> bool:
        try:
            return not self._guest.off(part) and ours()
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self._guest.failed(part, error)
            return False

    def _let_through(self, rollback: Rollback, verdict: Verdict, due: bool) -> None:
        """The update comes next: the place for a snapshot, and for clipping that a remedy asked for."""
        rollback.snapshots.tick()
        try:
            rollback.check_rate()
            if due and self._by_hand:
                self._wanted = True
            elif due:
                rollback.observe(rollback.watch.rows - 1, verdict.step)
            if rollback.clip is not None:
                rollback.clip.apply()
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self._guest.failed("snapshots", error)

    def snapshot(self) -> None:
        """Optional, at the top of the loop, before the rollouts: the place where a snapshot that is due is taken.

        Without it, `step` takes them, right before the optimizer's own step, which on an accelerator then waits for the
        copy. From here the copy runs beside the rollouts, the forward and the backward pass. With several ranks, call
        it on each.
        """
        if self.rollback is None:
            return
        first, self._by_hand = not self._by_hand, True
        if not (self._wanted or first):
            return
        self._wanted = False
        try:
            self.council.meet()
            self.rollback.observe(self.rollback.watch.rows, self.rollback.watch.step + 1)
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self._guest.failed("snapshots", error)

    def close(self) -> None:
        """After the loop, where the process goes on: the hooks go, and the memory of the snapshots is free."""
        self.remove()
        if self.rollback is not None:
            self.rollback.close()

    def measured(self) -> dict[str, float]:
        """The norms of the last update, where they were measured and have not been given yet; mostly nothing."""
        try:
            return {} if self._norms is None else self._norms.take()
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self._guest.failed("the norms of updates", error)
            self._norms = None
            return {}

    def _measure(self, critic: Any) -> StepNorms | None:
        try:
            given = critic_of(self.model) if critic is None else critic
            return StepNorms(self.optimizers, self._guest, list(getattr(given, "parameters", lambda: given)()))
        except Exception as error:  # noqa: BLE001 - whatever they are, the run is guarded without the norms
            self._guest.failed("the norms of updates", error)
            return None

    def remove(self) -> None:
        """Take the hooks off the optimizers; verdicts are still acted on."""
        for check in self._checks:
            check.remove()
        self._checks.clear()
        if self._norms is not None:
            self._norms.remove()

    def _take_back(self, verdict: Verdict, position: Any) -> bool:
        self._drop_gradients()
        if self.rollback is None:
            return False
        if self.scaler is not None:
            with suppress(AssertionError):
                self.scaler.update()
        outcome = self.rollback.respond(verdict, position)
        verdict.settle(verdict.action, outcome.note)
        return outcome.done

    def _step(self, verdict: Verdict) -> bool:
        if verdict.poisoned and self._checked_anyway():
            return False
        if verdict.halt:
            if verdict.poisoned:
                self._drop_gradients()
            return False
        if not verdict.skip:
            if not self._checks:
                self.consecutive = 0
            return False
        self._drop_gradients()
        if self.scaler is not None:
            with suppress(AssertionError):  # it saw no gradient this time, so it has nothing to clear
                self.scaler.update()
        self._note(True)
        return True

    def _checked_anyway(self) -> bool:
        """Whether a non-finite update is better left to the check of the gradients (or to the scaler)."""
        if not self._checks and self.scaler is None:
            return False
        return any(p.device.type != "cpu" for each in self.optimizers for p in parameters(each))

    def _drop_gradients(self) -> None:
        for each in self.optimizers:
            if self.scaler is not None:
                # Raises when the loop has called it already, or never scaled a loss.
                with suppress(RuntimeError, AssertionError):
                    self.scaler.unscale_(each)
            withhold(each)
        if self.model is not None:
            withhold(self.model.parameters())

    def _watch_steps(self, optimizer: Any) -> None:
        if hasattr(optimizer, "register_step_pre_hook"):
            self._checks.append(GradientCheck(optimizer, self._note, self._guest, self.nonfinite == "wait"))
        else:
            name = type(optimizer).__name__
            self._guest.complain(name, f"{name} takes no step hooks: only verdicts keep bad updates from it")

    def _note(self, withheld: bool) -> None:
        if not withheld:
            self.consecutive = 0
            return
        self.skipped += 1
        self.consecutive += 1
        if self.skipped == 1 or self.consecutive in (10, 100, 1000):
            logger.warning("rlwatch: an update was withheld from the weights (%d in a row)", self.consecutive)


def _unwrapped(optimizer: Any) -> Any:
    """The optimizer whose `step` runs: accelerate wraps it in one that calls no hooks."""
    inner = getattr(optimizer, "optimizer", None)
    return _unwrapped(inner) if hasattr(inner, "param_groups") else optimizer


def _as_list(optimizer: Any) -> list[Any]:
    if optimizer is None:
        return []
    return list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]
