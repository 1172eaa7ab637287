"""Named defaults for an algorithm: what a preset changes and why, and nothing else.

The defaults are made for LLM post-training with GRPO-like methods; docs/presets.md says how they were measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that a preset changes, as `detector.setting`, and the reason in a sentence."""

    setting: str
    value: Any
    why: str


@dataclass(frozen=True, slots=True)
class Preset:
    """An algorithm's defaults.

    Attributes:
        about: for which runs it is, one sentence.
        changes: what differs from the defaults.
        absent: detector -> why such a run has none of its signals. Coverage then says so instead of asking for them;
            if one comes all the same, the detector works.
    """

    about: str
    changes: tuple[Change, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)


_NO_CRITIC = dict.fromkeys(("value_failure", "update_imbalance"), "there is no critic")
_NO_ROLLOUTS = dict.fromkeys(
    (
        *("reward_variance_explosion", "reward_bimodality", "reward_drift", "reward_collapse", "reward_degenerate"),
        *("proxy_divergence", "length_exploitation", "side_metrics", "advantage_spike"),
        *("clip_fraction", "rollout_mismatch", "staleness"),
    ),
    "preference training has no rollouts",
)
_NO_TEXT = dict.fromkeys(
    ("length_exploitation", "side_metrics", "proxy_divergence", "rollout_mismatch", "kl_controller"),
    "classical control has no text, no reference policy and no inference engine",
)

_ALGORITHMS = {
    "grpo": Preset("GRPO, RLOO and kin on language models: what the defaults are made for", absent={**_NO_CRITIC}),
    "rlvr": Preset(
        "rewards from a verifier, 0/1 or of few values, with GRPO-like methods",
        (
            Change("reward_bimodality.enabled", False, "a verifier's rewards have two heaps by design"),
            Change(
                "reward_degenerate.finished_rows",
                400,
                "all correct is where such a run is meant to end; say so late, when nothing else can be learnt",
            ),
        ),
        absent={**_NO_CRITIC, "proxy_divergence": "the verifier is the goal itself, not a proxy of it"},
    ),
    "ppo": Preset("PPO with a critic and a learned reward, on language models: the critic's signals are asked for"),
    "dpo": Preset(
        "DPO, KTO, ORPO and other preference losses",
        absent={**_NO_CRITIC, **_NO_ROLLOUTS, "kl_controller": "beta is a constant of the loss"},
    ),
    "classic": Preset(
        "classical control: Stable-Baselines3, CleanRL, RLlib",
        (
            Change(
                "gradient_spike.value_loss_explains",
                True,
                "returns rise by orders of magnitude, and the gradient of the value loss with them",
            ),
            Change("advantage_spike.severity", "warning", "advantages that are not normalised scale with the returns"),
            Change("reward_variance_explosion.severity", "warning", "the spread of the returns grows with the returns"),
            Change("reward_degenerate.severity", "warning", "many environments pay the same for every step"),
            Change("entropy_collapse.severity", "warning", "a solved control task ends near a deterministic policy"),
        ),
        absent=_NO_TEXT,
    ),
}

STRICT = (
    Change("entropy_collapse.warning_ratio", 0.25, "warns at a quarter of the opening instead of a seventh"),
    Change("kl_explosion.warning_level", 0.15, "above the .09 of the median healthy run, below the .19 of the highest"),
    Change("kl_explosion.creep_level", 0.25, "healthy runs stay below .194 over 20 rows"),
    Change("gradient_spike.warning_times", 4.0, "healthy runs peak at 6x (median of single rows); 5 rows have less"),
    Change("gradient_spike.warning_sigma", 4.5, "goes with the ratio"),
    Change("advantage_spike.warning_times", 2.0, "a doubled spread is worth a look"),
    Change("reward_variance_explosion.warning_times", 2.0, "a doubled spread is worth a look"),
    Change("reward_collapse.warning_left", 0.4, "5 % of healthy runs come below .40 of their peak"),
    Change("clip_fraction.warning_level", 0.3, "field reports: 20-30 % is bad"),
    Change("length_exploitation.growth", 1.3, "just above the 1.28x that healthy runs reach at most"),
)
"""What `-strict` adds to a preset."""


def _catalogue() -> dict[str, Preset]:
    strict = {}
    for name, preset in _ALGORITHMS.items():
        switched_off = {change.setting.partition(".")[0] for change in preset.changes if change.value is False}
        extra = [change for change in STRICT if change.setting.partition(".")[0] not in switched_off]
        about = f"as {name}, with lower limits for warnings: more of them, sooner; criticals as they are"
        strict[f"{name}-strict"] = Preset(about, (*preset.changes, *extra), preset.absent)
    return {**_ALGORITHMS, **strict}


CATALOGUE: Mapping[str, Preset] = _catalogue()
"""All presets by name."""


def _nested(changes: tuple[Change, ...]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for change in changes:
        detector, _, name = change.setting.partition(".")
        settings.setdefault(detector, {})[name] = change.value
    return settings


PRESETS: dict[str, dict[str, Any]] = {name: _nested(preset.changes) for name, preset in CATALOGUE.items()}
"""The changes as settings: preset -> detector -> setting -> value."""


def absent_by_nature(preset: str | None) -> Mapping[str, str]:
    """Detector -> why a run of this preset has none of its signals."""
    return CATALOGUE[preset].absent if preset is not None and preset in CATALOGUE else {}
