"""What an alert says about the run, as facts that the compounds and the advice are written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rlwatch.alert import Alert

Test = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Sign:
    """One fact: `says` completes "if ..."; `shown_by` maps a detector to the evidence for which its alert shows it.

    The first detector is the one that watches for it; the others may see it beside their own business.
    """

    name: str
    says: str
    shown_by: Mapping[str, Test]

    @property
    def detector(self) -> str:
        """The detector whose business it is."""
        return next(iter(self.shown_by))


def signs_of(alert: Alert) -> frozenset[str]:
    """The names of the signs that this alert shows; none for a detector that is in no table."""
    return frozenset(name for name, test in _BY_DETECTOR.get(alert.detector, ()) if test(alert.evidence))


def _number(evidence: Mapping[str, Any], name: str) -> float | None:
    value = evidence.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _pair(evidence: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """[opening, now] of a value."""
    value = evidence.get(name)
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(x, int | float) for x in value):
        return float(value[0]), float(value[1])
    return None


def _always(evidence: Mapping[str, Any]) -> bool:
    return True


def _has(*names: str) -> Test:
    return lambda evidence: any(name in evidence for name in names)


def _lacks(name: str) -> Test:
    return lambda evidence: name not in evidence


def _true(name: str) -> Test:
    return lambda evidence: evidence.get(name) is True


def _above(name: str, limit: float, absent: bool = False) -> Test:
    def test(evidence: Mapping[str, Any]) -> bool:
        value = _number(evidence, name)
        return absent if value is None else value > limit

    return test


def _below(name: str, limit: float) -> Test:
    def test(evidence: Mapping[str, Any]) -> bool:
        value = _number(evidence, name)
        return value is not None and 0.0 < value < limit

    return test


def _grew(name: str, times: float) -> Test:
    def test(evidence: Mapping[str, Any]) -> bool:
        pair = _pair(evidence, name)
        return pair is not None and 0.0 < times * pair[0] <= pair[1]

    return test


def _shrank(name: str, times: float) -> Test:
    def test(evidence: Mapping[str, Any]) -> bool:
        pair = _pair(evidence, name)
        return pair is not None and 0.0 <= pair[1] <= times * pair[0]

    return test


def _drift(up: bool) -> Test:
    def test(evidence: Mapping[str, Any]) -> bool:
        first, last = _number(evidence, "from"), _number(evidence, "to")
        return first is not None and last is not None and (last > first if up else last < first)

    return test


def _reward_fell(evidence: Mapping[str, Any]) -> bool:
    reward, peak = _number(evidence, "reward"), _number(evidence, "reward_peak")
    return reward is not None and peak is not None and peak > 0.0 and reward < 0.5 * peak


def _gold_behind(evidence: Mapping[str, Any]) -> bool:
    """Gold is below its best, or has less than a tenth of what the proxy gained."""
    proxy, gold, best = _pair(evidence, "proxy"), _pair(evidence, "gold"), _number(evidence, "gold_best")
    if proxy is None or gold is None:
        return True
    return (best is not None and gold[1] < 0.95 * best) or gold[1] - gold[0] < 0.1 * (proxy[1] - proxy[0])


def _gold_behind_drift(evidence: Mapping[str, Any]) -> bool:
    gold, first, last = _pair(evidence, "gold_score"), _number(evidence, "from"), _number(evidence, "to")
    if gold is None or first is None or last is None:
        return False
    return gold[1] - gold[0] < 0.1 * (last - first)


def _over_optimised(evidence: Mapping[str, Any]) -> bool:
    """Proxy up 10 %, gold down 5 % since gold was at its best, and by more than noise: the field's guard."""
    proxy, gold = _pair(evidence, "proxy"), _pair(evidence, "gold")
    best, then = _number(evidence, "gold_best"), _number(evidence, "proxy_at_gold_best")
    if proxy is None or gold is None or best is None or then is None:
        return False
    errors = _pair(evidence, "standard_errors")
    down = best - gold[1]
    sure = errors is None or down > 3.0 * errors[1]
    return proxy[1] - then >= 0.1 * abs(then) and down >= 0.05 * abs(best) > 0.0 and sure


SIGNS: dict[str, Sign] = {
    sign.name: sign
    for sign in (
        Sign("reward_up", "the reward goes up", {
            "reward_drift": _drift(up=True), "proxy_divergence": _always, "side_metrics": _true("reward_rising"),
        }),
        Sign("reward_down", "the reward goes down", {
            "reward_collapse": _always, "reward_drift": _drift(up=False), "entropy_explosion": _true("reward_fallen"),
            "length_exploitation": _reward_fell,
        }),
        Sign("gold_flat", "the gold score does not follow the reward", {
            "proxy_divergence": _gold_behind, "reward_drift": _gold_behind_drift,
        }),
        Sign("over_optimised", "the reward is up 10 % and the gold score down 5 %", {
            "proxy_divergence": _over_optimised,
        }),
        Sign("length_up", "the responses grow longer", {
            "length_exploitation": _above("times", 1.0, absent=True), "reward_drift": _grew("response_length", 1.3),
        }),
        Sign("length_down", "the responses shrink", {"length_exploitation": _below("times", 1.0)}),
        Sign("side_shift", "the completions change in repetition, format, refusals or tool calls", {
            "side_metrics": _always,
        }),
        Sign("reward_split", "some samples earn far more than the others", {
            "reward_variance_explosion": _lacks("level_before"), "reward_bimodality": _always,
        }),
        Sign("reward_dead", "the rewards no longer differ", {
            "reward_degenerate": _lacks("correlation"), "reward_variance_explosion": _has("level_before"),
            "advantage_spike": _has("level_before"),
        }),
        Sign("advantage_up", "the advantages spread out", {"advantage_spike": _lacks("level_before")}),
        Sign("kl_up", "KL goes up", {
            "kl_explosion": _always, "kl_controller": _has("level", "kl_to"),
            "clip_fraction": _above("approx_kl", 0.1),
        }),
        Sign("beta_outrun", "KL rises while its coefficient rises", {"kl_controller": _has("coefficient_from")}),
        Sign("clip_high", "a large share of the samples is clipped", {"clip_fraction": _always}),
        Sign("critic_bad", "the critic does not predict the returns", {"value_failure": _always}),
        Sign("imbalance", "policy and critic move out of step", {"update_imbalance": _always}),
        Sign("entropy_down", "entropy falls", {
            "entropy_collapse": _always, "reward_drift": _shrank("entropy", 0.5),
        }),
        Sign("entropy_up", "entropy rises", {"entropy_explosion": _always}),
        Sign("mismatch", "trainer and inference engine disagree", {"rollout_mismatch": _always}),
        Sign("stale", "the rollouts grow old", {"staleness": _always}),
        Sign("gradient_up", "the gradient norm is far above its level", {"gradient_spike": _lacks("level_before")}),
        Sign("frozen", "the weights do not move", {
            "frozen_weights": _always, "gradient_spike": _has("level_before"),
        }),
        Sign("nonfinite", "loss or gradient is not finite", {"loss_nonfinite": _always}),
        Sign("slow", "the steps become slower", {"throughput": _has("reference")}),
    )
}  # fmt: skip

_BY_DETECTOR: dict[str, list[tuple[str, Test]]] = {}
for _sign in SIGNS.values():
    for _detector, _test in _sign.shown_by.items():
        _BY_DETECTOR.setdefault(_detector, []).append((_sign.name, _test))

OUTCOMES = frozenset({"reward_down"})
"""Signs of what the loop made of a failure, not of where it began: the reward is the last to show it."""


def only_outcome(alert: Alert) -> bool:
    """Whether the alert tells of an outcome and of nothing else."""
    shown = signs_of(alert)
    return bool(shown) and shown <= OUTCOMES
