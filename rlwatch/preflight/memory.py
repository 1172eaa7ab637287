"""How much accelerator memory a training will ask for: weights, gradients, optimizer, activations, cache.

Parameters are counted on the model itself, built without memory from its configuration; activations by running its own
forward pass on fake tensors and adding up what autograd keeps, so neither rests on a formula for one architecture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rlwatch.preflight.checks import PreflightError, Report
from rlwatch.preflight.memory_parts import BYTES, OPTIMIZERS, Counted, activations, cache_bytes, count

if TYPE_CHECKING:
    from collections.abc import Sequence

Role = Literal["actor", "critic", "reference", "reward model"]

OVERHEAD = 1.5 * 2**30
"""Context, kernels and communication buffers of a process on an accelerator: 1 to 2 GiB, a rule of thumb."""


@dataclass(frozen=True)
class Plan:
    """A training setup.

    Attributes:
        roles: the models that lie in memory at once.
        dtype: of the weights that compute: float32, bfloat16 or float16.
        optimizer: adamw, adamw_8bit, sgd (without momentum) or none.
        master: whether a float32 copy of the trained weights is kept beside (mixed precision; FSDP's and DeepSpeed's).
        zero: stage of ZeRO, 3 is FSDP's full sharding.
        devices: over which that shards.
        lora: rank of the adapters of actor and critic; 0 trains all weights.
        lora_targets: names of linear layers with an adapter; empty for all but the output layer.
        batch, tokens: sequences of a micro-batch, and tokens of one, prompt and completion.
        checkpointing: activations of one layer at a time are computed again.
        generate: sequences that are sampled at once by the same processes; 0 where another engine does it.
        attention: implementation, sdpa or eager.
    """

    roles: Sequence[Role] = ("actor", "reference")
    dtype: str = "bfloat16"
    optimizer: str = "adamw"
    master: bool = False
    zero: int = 0
    devices: int = 1
    lora: int = 0
    lora_targets: Sequence[str] = ()
    batch: int = 1
    tokens: int = 1024
    checkpointing: bool = False
    generate: int = 0
    attention: str = "sdpa"


@dataclass
class Estimate:
    """Bytes on one device.

    Attributes:
        parameters, trained: of one model, and those of them (or of its adapters) that are trained.
        parts: name -> bytes.
        unknown: parts that could not be estimated, with the reason.
    """

    plan: Plan
    parameters: int
    trained: int
    parts: dict[str, float] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """All parts that are known."""
        return sum(self.parts.values())

    def against(self, limit: float | None) -> Report:
        """A verdict on whether it fits into `limit` bytes a device; None for no verdict."""
        report = Report(f"memory, {self.parameters / 1e9:.3g} billion parameters")
        report.pictures = ["", *self.lines()]
        gib = self.total / 2**30
        evidence = {"total": self.total, "parts": self.parts, "limit": limit, "parameters": self.parameters}
        evidence["trained"] = self.trained
        gap = "; ".join(f"{name}, because {why}" for name, why in self.unknown.items())
        if limit is None:
            says = f"{gib:.1f} GiB a device" + (f", without {gap}" if gap else "")
            needed = bool(gap)
            report.add("fits", "not evaluated", f"{says}; no --limit was given", evidence=evidence, needed=needed)
            if not gap:
                report.add("estimate", "pass", "every part was estimated")
            return report
        says = f"{gib:.1f} of {limit / 2**30:.1f} GiB a device"
        if self.total > limit:
            fix = "--zero 3, --lora 16, --checkpointing, a smaller --batch; the largest part first"
            report.add("fits", "fail", f"{says}: it does not fit", fix, evidence=evidence)
        elif gap:
            report.add("fits", "not evaluated", f"{says}, but without {gap}", "give a configuration", evidence=evidence)
        elif self.total > 0.9 * limit:
            fix = "leave a tenth for fragmentation and longer sequences"
            report.add("fits", "warning", f"{says}: tight", fix, evidence=evidence)
        else:
            report.add("fits", "pass", says, evidence=evidence)
        return report

    def lines(self) -> list[str]:
        """The parts as text."""
        wide = max(map(len, self.parts), default=0)
        said = [f"  {name:<{wide}}  {_size(size):>10}" for name, size in self.parts.items()]
        return [*said, f"  {'total':<{wide}}  {_size(self.total):>10}"]


def estimate_memory(config: Any = None, plan: Plan | None = None, *, parameters: int | None = None) -> Estimate:
    """Estimates the memory of a device at its peak, in the backward pass of the actor.

    Args:
        config: a configuration of Hugging Face, its folder, its file or its name; a dict with a `model_type`.
        parameters: their number, where there is no configuration; activations are then unknown.

    Raises:
        PreflightError: the configuration cannot be read, or the plan makes no sense.
        ModuleNotFoundError: a configuration is given, and Transformers is missing.
    """
    plan = plan or Plan()
    _sane(plan)
    if (config is None) == (parameters is None):
        raise PreflightError("give a model's configuration, or the number of its parameters")
    counted = count(config, plan) if config is not None else Counted(int(parameters or 0), plan.lora and None, None)
    if counted.total <= 0:
        raise PreflightError("a model has at least one parameter")
    if counted.trained is None:
        raise PreflightError("with LoRA the number of parameters is not enough: give the configuration")
    made = Estimate(plan, counted.total, counted.trained or counted.total)
    _static(made, counted)
    if counted.config is None:
        made.unknown["activations"] = "there is no configuration"
    else:
        kept, peak = activations(counted.config, plan)
        made.parts["activations"] = kept
        made.parts["peak of the backward pass"] = peak
    if plan.generate and counted.config is not None:
        made.parts["cache of the generation"] = cache_bytes(counted.config, plan)
    elif plan.generate:
        made.unknown["cache of the generation"] = "there is no configuration"
    made.parts["context and buffers (rule of thumb)"] = OVERHEAD
    return made


def _sane(plan: Plan) -> None:
    if plan.dtype not in BYTES:
        raise PreflightError(f"there is no type {plan.dtype!r}: {', '.join(BYTES)}")
    if plan.optimizer not in OPTIMIZERS:
        raise PreflightError(f"there is no optimizer {plan.optimizer!r}: {', '.join(OPTIMIZERS)}")
    if plan.zero not in (0, 1, 2, 3):
        raise PreflightError(f"ZeRO has the stages 0 to 3, not {plan.zero}")
    if plan.devices < 1 or plan.batch < 1 or plan.tokens < 1 or plan.lora < 0 or plan.generate < 0:
        raise PreflightError("devices, batch and tokens are 1 or more, the others 0 or more")
    if plan.zero and plan.devices == 1:
        raise PreflightError("ZeRO shards over devices: give --devices of 2 or more")
    if not plan.roles:
        raise PreflightError("give at least one role")


def _static(made: Estimate, counted: Counted) -> None:
    """Weights, gradients and optimizer states of each role (Rajbhandari et al. 2020, arXiv:1910.02054, table 1)."""
    plan = made.plan
    wide = BYTES[plan.dtype]
    shard = [plan.devices if plan.zero >= stage else 1 for stage in (3, 2, 1)]
    for role in dict.fromkeys(plan.roles):
        adapters = made.trained if plan.lora and role in ("actor", "critic") else 0
        weights = (counted.total + adapters) * wide
        made.parts[f"{role}: weights"] = weights / shard[0]
        if role in ("actor", "critic") and plan.optimizer != "none":
            made.parts[f"{role}: gradients"] = made.trained * wide / shard[1]
            states = OPTIMIZERS[plan.optimizer] * made.trained * (wide if plan.optimizer == "adamw" else 1)
            if plan.master and plan.optimizer == "adamw":
                states = 2 * 4 * made.trained
            made.parts[f"{role}: optimizer"] = (states + (4 * made.trained if plan.master else 0)) / shard[2]
    if plan.lora and "reference" in plan.roles:
        # The reference is the actor without its adapters, and lies in the same memory.
        made.parts["reference: weights"] = 0.0


def _size(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 else f"{size / 2**20:.3g} MiB"
