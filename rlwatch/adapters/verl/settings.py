"""What verl's configuration says to rlwatch: its own settings, the preset, and the fixes for missing signals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlwatch.config import ConfigError, load_settings
from rlwatch.watch import Watch

WHERE = "trainer.rlwatch"

_NO_NORMS = "verl's workers report no norms of their updates: update_imbalance=False drops this line"


def watch_for(config: Mapping[str, Any]) -> Watch:
    """The Watch of a `fit()`: settings from `+trainer.rlwatch.<setting>=`, else RLWATCH_*, else rlwatch.yaml.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    given = entry(config, WHERE)
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"{WHERE} must hold settings by name (+{WHERE}.on_critical=halt), it holds {given!r}")
    settings = {str(name): value for name, value in given.items() if value is not None}
    if load_settings(**settings).preset is None:
        settings["preset"] = preset_of(config)
    return Watch(**settings)


def preset_of(config: Mapping[str, Any]) -> str:
    """`ppo` where there is a critic (`algorithm.adv_estimator=gae`, verl's default), else `grpo`."""
    critic = entry(config, "critic.enable")
    if critic is None:
        critic = str(entry(config, "algorithm.adv_estimator")).lower() == "gae"
    return "ppo" if critic else "grpo"


def hints_for(config: Mapping[str, Any]) -> dict[str, str]:
    """Canonical signal -> the one-line fix in verl's own settings, for the coverage table."""
    hints = dict.fromkeys(("policy_step_norm", "value_step_norm", "update_norm"), _NO_NORMS)
    hints["gold_score"] = (
        "with trainer.test_freq > 0, name the validation score: "
        "+trainer.rlwatch.signal_map.gold_score=val-core/<data source>/acc/mean@1"
    )
    if not (entry(config, "actor_rollout_ref.actor.use_kl_loss") or entry(config, "algorithm.use_kl_in_reward")):
        hints["kl"] = hints["kl_coef"] = (
            "actor_rollout_ref.actor.use_kl_loss=True, or algorithm.use_kl_in_reward=True: "
            "without one verl computes no KL to the reference policy"
        )
    elif str(entry(config, "algorithm.kl_ctrl.type")) != "adaptive":
        hints["kl_target"] = "only algorithm.kl_ctrl.type=adaptive has a target; a fixed coefficient has none"
    if not entry(config, "actor_rollout_ref.rollout.calculate_log_probs"):
        names = ("rollout_prob_diff", "rollout_kl", "rollout_logprob_diff")
        hints.update(dict.fromkeys(names, "actor_rollout_ref.rollout.calculate_log_probs=True"))
    return hints


def entry(config: Any, path: str) -> Any:
    """The value at a dotted path of a dict or a DictConfig; None where there is none."""
    for name in path.split("."):
        if not isinstance(config, Mapping) and not hasattr(config, "get"):
            return None
        config = config.get(name)
    return config
