"""What rlwatch knows of each TRL trainer: its preset, its odd names, the fix for a signal it does not give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rlwatch.config import load_settings
from rlwatch.watch import Watch


@dataclass(frozen=True, slots=True)
class Family:
    """A trainer class and those derived from it.

    `rename` maps keys whose meaning differs from the usual one to canonical names; `absent` maps canonical
    signals that the trainer cannot give to what can be done about it.
    """

    trainer: str
    preset: str | None = None
    rename: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


_SYNCHRONOUS = {
    "staleness": "none is needed: the policy itself samples anew every steps_per_generation steps",
    "gold_score": "score what the reward stands for now and then: log_metric('gold_score', x) in a reward function",
}
_NO_KL = dict.fromkeys(
    ("kl", "kl_sequence", "approx_kl"),
    "DPO computes no KL to the reference: look at reward_margin and logps_chosen; kl_explosion=False drops this line",
)

FAMILIES = (
    # Its `kl` is that of the old to the new policy, its `reward_std` that within groups.
    Family("AsyncGRPOTrainer", "grpo", {"kl": "approx_kl", "reward_std": "group_reward_std"}),
    Family("GRPOTrainer", "grpo", absent=_SYNCHRONOUS),
    Family("RLOOTrainer", "grpo", absent=_SYNCHRONOUS),
    Family("OnlineDPOTrainer", "dpo"),
    # Its `kl` is the log-ratio summed over a completion.
    Family("KTOTrainer", "dpo", {"kl": "kl_sequence"}),
    Family("DPOTrainer", "dpo", absent=_NO_KL),
)
_BY_NAME = {family.trainer: family for family in FAMILIES}

UNKNOWN = Family("")


def family_of(trainer: object) -> Family:
    """The family of the nearest ancestor that is known, by name: TRL need not be imported for it."""
    names = [kind.__name__ for kind in type(trainer).__mro__]
    return next((_BY_NAME[name] for name in names if name in _BY_NAME), UNKNOWN)


def watch_for(trainer: Any, settings: dict[str, Any], last: Watch | None, main_process: bool) -> Watch:
    """The Watch of a `train()`, with the trainer's preset unless one is set; it goes on from the `last` one."""
    known = load_settings(**settings)
    given = {**settings, "main_process": known.main_process and main_process}
    if known.preset is None and trainer is not None:
        given["preset"] = family_of(trainer).preset
    watch = Watch(**given)
    if last is not None:
        last.close()  # closed already, unless the last train() ended in an exception
        if getattr(trainer, "model_init", None) is None:  # which makes another model for each train()
            watch.load_state_dict(last.state_dict())
    return watch


def hints_for(trainer: Any) -> dict[str, str]:
    """Canonical signal -> the one-line fix in this trainer's own settings, for the coverage table."""
    family, args = family_of(trainer), trainer.args
    hints = dict(family.absent)
    if family.trainer in ("GRPOTrainer", "RLOOTrainer"):
        if getattr(trainer, "beta", None) == 0.0:
            hints["kl"] = (
                f"{type(args).__name__}(beta=0.001) loads a reference model and logs kl: at beta=0 TRL computes none"
            )
            hints["kl_coef"] = "none is needed: at beta=0 there is no KL penalty to control"
        if not getattr(trainer, "use_vllm", False):
            hints["rollout_prob_diff"] = "none is needed: without use_vllm the trainer samples by itself"
    if family.trainer == "OnlineDPOTrainer" and getattr(trainer, "reward_funcs", None) is None:
        hints["rewards"] = hints["reward_std"] = "pass reward_funcs: a judge gives preferences, not rewards"
    if not getattr(args, "max_grad_norm", 1.0) and not hasattr(trainer, "_get_grad_norm"):
        hints["grad_norm"] = "set max_grad_norm > 0: this transformers measures no gradient norm without it"
    return hints


def detached_hints() -> dict[str, str]:
    """The hints where no trainer was found: only the averaged log is seen."""
    fix = "call rlwatch.attach(trainer): without the trainer only what it logs every logging_steps is seen"
    names = ("loss", "grad_norm", "rewards", "advantages", "reward_std", "advantage_std", "entropy", "kl")
    return dict.fromkeys(names, fix)
