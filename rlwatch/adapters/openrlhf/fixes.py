"""What rlwatch knows of an OpenRLHF run from its flags: the preset, and the fix for a signal that it does not give."""

from __future__ import annotations

from typing import Any

from rlwatch.adapters.openrlhf.norms import PARTITIONED

CRITIC = ("explained_variance", "value_loss", "values", "value_mean")
NORMS = ("policy_step_norm", "value_step_norm")
MISMATCH = ("rollout_logprob_diff", "rollout_prob_diff", "rollout_kl", "is_weight_mean", "ess")


def preset_of(args: Any) -> str:
    """The preset that the advantage estimator asks for."""
    return "ppo" if args.algo.advantage.estimator == "gae" else "grpo"


def hints_for(args: Any) -> dict[str, str]:
    """Canonical signal -> the one-line fix in OpenRLHF's flags, for the coverage table."""
    hints: dict[str, str] = {}
    if args.actor.entropy_coef is None:
        hints["entropy"] = "--actor.entropy_coef 0 logs the entropy and changes nothing else"
    if not args.algo.kl.init_coef > 0:
        hints["kl"] = "--algo.kl.init_coef 0.001 loads a reference model and logs kl: at 0 there is none"
        hints["kl_coef"] = "there is no KL penalty in this run (--algo.kl.init_coef 0)"
    elif not args.algo.kl.target:
        hints["kl_target"] = "nothing to watch: without --algo.kl.target the coefficient is constant"
    if args.algo.advantage.estimator != "gae":
        hints.update(dict.fromkeys(CRITIC, "there is no critic: only --algo.advantage.estimator gae trains one"))
    if args.algo.advantage.is_correction_level == "off":
        fix = "--algo.advantage.is_correction_level token lets the engine return its log-probabilities, and corrects"
        hints.update(dict.fromkeys(MISMATCH, fix))
    if not getattr(args.train, "async_enable", False):
        why = "nothing to watch: without --train.async_enable every rollout is of the policy that it trains"
        hints.update(dict.fromkeys(("staleness", "staleness_max"), why))
    if args.algo.advantage.estimator != "gae":
        hints.update(dict.fromkeys(NORMS, "there is no critic, and so no ratio of two"))
    elif getattr(getattr(args, "ds", None), "zero_stage", 0) >= PARTITIONED:
        hints.update(dict.fromkeys(NORMS, "--ds.zero_stage 2 leaves each worker whole weights to measure, 3 does not"))
    hints["gold_score"] = (
        "return a score of the real goal in the reward function's extra_logs, and name it: "
        '--rlwatch.signal_map \'{"gold_score": "<its key>"}\''
    )
    return hints


def penalised(args: Any) -> bool:
    """Whether there is a reference model. Without one OpenRLHF logs a KL of 0, which is no measurement."""
    return bool(args.algo.kl.init_coef > 0)
