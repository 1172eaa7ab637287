"""One `trainer.train()`: the seams into the trainer, the row of each optimizer step, the decision on it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlwatch.adapters.pytorch import _unwrapped
from rlwatch.adapters.seams import Seams
from rlwatch.adapters.step_norms import StepNorms
from rlwatch.adapters.trl.backward import BackwardGuard, steps_inside_backward
from rlwatch.adapters.trl.families import family_of
from rlwatch.adapters.trl.going_back import GoingBack
from rlwatch.adapters.trl.knobs import RewardClip
from rlwatch.adapters.trl.metrics import StepMetrics
from rlwatch.adapters.trl.online import OnlinePairs
from rlwatch.adapters.trl.rollouts import Rollouts
from rlwatch.alert import Action, Verdict
from rlwatch.ranks import Ranks
from rlwatch.responses.skip import withhold

if TYPE_CHECKING:
    from rlwatch.guest import Guest
    from rlwatch.watch import Watch

logger = logging.getLogger("rlwatch")

JUDGING = "the judgement of a step"
GUARDED = ("loss", "grad_norm")
SUMS = 5

MAX_OVERFLOWS = 16
"""Overflows in a row that an fp16 gradient scaler may have. It starts at 2^16 and halves at each, so that after
these the gradients overflow without any scaling."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done about this step, the same on all ranks; `back` is this rank's verdict when all go back."""

    skip: bool = False
    halt: bool = False
    back: Verdict | None = None


class Session:
    """Sees every optimizer step of one training run and decides on it before the weights change.

    The loss of a step is the sum of what `training_step` returned for its micro-batches: each trainer scales them
    so that this is the mean over the accumulated batch, and a NaN or Inf in one shows in the sum.
    """

    def __init__(self, trainer: Any, watch: Watch, guest: Guest, ranks: Ranks, remedies: Any = None) -> None:
        self.trainer = trainer
        self.watch = watch
        self.ranks = ranks
        self._guest = guest
        family = family_of(trainer)
        self._rename = family.rename
        self._penalised = family.trainer in ("GRPOTrainer", "RLOOTrainer")
        self._loss: Any = None
        self._grad_norm: Any = None
        self._overflows = 0
        self._begun = 0.0
        self._seams = seams = Seams(guest)
        self.going_back: GoingBack | None = None
        if watch.settings.on_critical == "rollback":
            # Before the rollouts are listened to: what a remedy clips is what is judged.
            self.going_back = GoingBack(trainer, watch, guest, ranks, RewardClip(trainer, seams), remedies)
        self._metrics = StepMetrics(trainer)
        self._rollouts = Rollouts(trainer, seams)
        self._pairs = OnlinePairs(trainer, seams, self._rollouts)
        seams.add(trainer, "training_step", self._on_loss)
        # Older transformers have no _get_grad_norm. Both give the norm before clipping, of all ranks together.
        if not seams.add(trainer, "_get_grad_norm", self._on_grad_norm):
            seams.add(trainer.accelerator, "clip_grad_norm_", self._on_grad_norm)
        self._norms: StepNorms | None = None
        if steps_inside_backward(trainer):
            BackwardGuard(trainer, watch, ranks, seams)
        else:
            self._norms = self._guarded("the norms of updates", StepNorms, [_unwrapped(trainer.optimizer)], guest)
        self._evaluated: dict[str, Any] = {}

    def begin_step(self) -> None:
        """Before the first micro-batch of an optimizer step."""
        self._loss = self._grad_norm = None
        self._begun = time.perf_counter()
        self._metrics.mark()
        self._rollouts.drop()
        self._pairs.drop()

    def end(self) -> None:
        """Restore the trainer's methods."""
        self._seams.remove()
        if self._norms is not None:
            self._norms.remove()
        if self.going_back is not None:
            self.going_back.end()

    def evaluated(self, metrics: Mapping[str, Any]) -> None:
        """An evaluation has ended: its metrics go with the next row."""
        self._evaluated.update(metrics)

    def _on_loss(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        self._loss = result if self._loss is None else self._loss + result

    def _on_grad_norm(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        self._grad_norm = result

    def decide(self, step: int, optimizer: Any) -> Decision:
        """Judge the step whose gradients are ready, and withhold its update if it must not reach the weights.

        Every rank enters both reductions at every step, whatever of ours has failed on it.
        """
        import torch

        sums = self._guarded("the loss of a step", self._sums, torch)
        summed = self.ranks.total(self._zeros(torch, SUMS) if sums is None else sums)
        measured = self._guarded("the values of a step", self._read, torch, summed) or {}
        judged = self._guarded(JUDGING, self._judge, step, measured, optimizer)
        verdict = judged or Verdict(step)
        decision = self._agree(verdict, self._withholds(verdict, measured), broken=judged is None)
        if decision.skip:
            withhold(optimizer)
        return decision

    def _agree(self, verdict: Verdict, withholds: bool, *, broken: bool) -> Decision:
        """One reduction: the strongest that a rank asks for is everyone's, and all take a snapshot or none does.

        States go by their rows, so a rank that has missed one has no state to go back to together with the others.
        """
        due = self.going_back is not None and bool(self._guarded("snapshots", self.going_back.due))
        uneasy = broken or withholds or verdict.critical
        rows = self.watch.rows
        skip, stop, back, broke, due_now, unease, most, least = self.ranks.highest(
            *map(int, (withholds, verdict.halt, verdict.rollback, broken, due, uneasy)), rows, -rows
        )
        if not self.ranks.together:
            return Decision()
        apart = bool(broke) or most != -least
        if back and apart:
            stop = 1
        if stop and not (verdict.halt or verdict.rollback) and self.ranks.rank == 0:
            logger.warning("rlwatch: halting at step %d: another rank asked for it", verdict.step)
        if due_now and not (unease or apart or skip or stop or back) and self.going_back is not None:
            self._guarded("snapshots", self.going_back.observe, verdict.step)
        return Decision(bool(skip or back), bool(stop), verdict if back and not stop else None)

    def go_back(self, verdict: Verdict) -> bool:
        """After the step that all ranks have agreed to undo; False when the run must stop instead."""
        return self.going_back is not None and bool(self._guarded("going back", self.going_back.respond, verdict))

    def _withholds(self, verdict: Verdict, measured: dict[str, float]) -> bool:
        """The values are looked at here too: the weights stay guarded when the judgement itself has failed."""
        poisoned = verdict.poisoned or not all(math.isfinite(measured.get(name, 0.0)) for name in GUARDED)
        return verdict.action is Action.SKIP or (poisoned and self.watch.settings.on_nonfinite != "continue")

    def _judge(self, step: int, measured: dict[str, float], optimizer: Any) -> Verdict | None:
        if self._guest.off(JUDGING):
            return None
        row: dict[str, Any] = {self._rename.get(key, key): x for key, x in self._metrics.take().items()}
        row.update(measured)
        row["learning_rate"] = optimizer.param_groups[0]["lr"]
        if "step_time" not in row and self._begun:  # only those that sample measure it
            row["step_time"] = time.perf_counter() - self._begun
        beta = vars(self.trainer).get("beta")
        if isinstance(beta, float) and beta > 0.0 and self._penalised:
            row["kl_coef"] = beta  # a remedy may change it
        row.update(self._rollouts.take())
        if self._norms is not None:
            row.update(self._guarded("the norms of updates", self._norms.take) or {})
        row.update(self._evaluated)
        self._evaluated.clear()
        return self.watch.log(row, step=step)

    # The values that are still tensors

    def _sums(self, torch: Any) -> Any:
        """This rank's loss, 1 if there is one, and the sums of OnlineDPO's pairs: shape (5,) on every rank."""
        sums = self._zeros(torch, SUMS)
        if self._loss is not None:
            sums[0] = self._loss.detach().mean()
            sums[1] = 1.0
        if (pairs := self._pairs.sums()) is not None:
            sums[2:] = pairs
        return sums

    def _read(self, torch: Any, summed: Any) -> dict[str, float]:
        """Loss, gradient norm and OnlineDPO's log-probabilities over all ranks, brought to the host in one go.

        On an accelerator this is the one place where we wait. The weights cannot be guarded without knowing,
        before the optimizer runs, whether the gradient is finite, and there is next to nothing left to wait for:
        Hugging Face has just read `isnan(loss)` behind the backward pass (`logging_nan_inf_filter`, on by
        default) and TRL its metrics of this very step, so only the gradient norm is pending, on which the update
        depends anyway. The rest of the row is on the host already.
        """
        norm = self._zeros(torch, 2)
        if self._grad_norm is not None:
            # FSDP2 gives a DTensor: the same collective on every rank.
            whole = getattr(self._grad_norm, "full_tensor", None)
            norm[0] = self._grad_norm if whole is None else whole()
            norm[1] = 1.0
        loss, losses, spoken, reference, tokens, grad_norm, norms = torch.cat([summed, norm]).tolist()
        measured: dict[str, float] = {}
        if losses:
            measured["loss"] = loss / losses
        if norms and not self._overflowed(loss, grad_norm):
            measured["grad_norm"] = grad_norm
        if tokens:
            measured["entropy"] = -spoken / tokens
            measured["kl"] = (spoken - reference) / tokens
        return measured

    def _zeros(self, torch: Any, size: int) -> Any:
        device = self.trainer.accelerator.device
        dtype = torch.float64 if device.type == "cpu" else torch.float32
        return torch.zeros(size, dtype=dtype, device=device)

    def _overflowed(self, loss: float, grad_norm: float) -> bool:
        """Whether an fp16 gradient scaler is finding its scale: it skips such a step itself; no failure."""
        scaler = getattr(self.trainer.accelerator, "scaler", None)
        if scaler is None or not scaler.is_enabled() or math.isfinite(grad_norm) or not math.isfinite(loss):
            self._overflows = 0
            return False
        self._overflows += 1
        return self._overflows <= MAX_OVERFLOWS

    def _guarded(self, part: str, ours: Any, *given: Any) -> Any:
        try:
            return ours(*given)
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self._guest.failed(part, error)
            return None
