"""Which trainers can go back while they train, and what state they have besides the policy's and the optimizer's."""

from __future__ import annotations

from typing import Any

from rlwatch.adapters.trl.backward import steps_inside_backward
from rlwatch.adapters.trl.families import family_of


def obstacle(trainer: Any) -> str:
    """Why this trainer's state cannot be put back while it trains; "" when it can.

    vLLM is no obstacle: TRL sends it the whole policy before the next generation, in server mode too. FSDP2 is none
    either: its parameters are DTensors, of which each rank keeps and puts back its own shards.
    """
    accelerator = trainer.accelerator
    kind = str(getattr(accelerator.distributed_type, "value", accelerator.distributed_type))
    if steps_inside_backward(trainer):
        return "the engine steps the optimizer inside the backward pass and keeps its state to itself"
    if kind == "FSDP" and not getattr(accelerator, "is_fsdp2", False):
        return "FSDP1 flattens its parameters (fsdp_version: 2 does not)"
    if kind in ("MEGATRON_LM", "XLA"):
        return f"{kind} keeps the weights to itself"
    if family_of(trainer).trainer == "AsyncGRPOTrainer":
        return "a worker of its own goes on sampling from the policy that is given up"
    return ""


def further_state(trainer: Any) -> dict[str, Any]:
    """State that is neither the policy's nor the optimizer's.

    That is a reference model that follows the policy, and GRPO's adaptive entropy coefficient.
    """
    state: dict[str, Any] = {}
    if getattr(trainer.args, "sync_ref_model", False) and getattr(trainer, "ref_model", None) is not None:
        state["ref_model"] = trainer.ref_model
    if getattr(trainer, "use_adaptive_entropy", False):
        names = ("entropy_coef", "_last_world_entropy")

        def put_back(values: dict[str, Any]) -> None:
            for name in names:
                setattr(trainer, name, values[name])

        state["entropy controller"] = (lambda: {name: getattr(trainer, name) for name in names}, put_back)
    return state
