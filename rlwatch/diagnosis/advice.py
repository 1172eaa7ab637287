"""Stop now, or adjust and go on: the field guides' line, as a table."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from rlwatch.alert import Alert
from rlwatch.diagnosis.compounds import Compound
from rlwatch.diagnosis.signs import signs_of


class Advice(StrEnum):
    """What to do with the run while the fix is made."""

    ADJUST = "adjust"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table: `about` names a detector, a sign or a compound.

    critical: whether it takes a critical alert (of that detector, or that shows that sign).
    because: completes "stop now: ..." or "adjust and go on: ...".
    go_on_if: when the run may go on as it is.
    """

    about: str
    advice: Advice
    because: str
    go_on_if: str
    critical: bool = False


_STOP, _ADJUST = Advice.STOP, Advice.ADJUST

RULES: tuple[Rule, ...] = (
    Rule("loss_nonfinite", _STOP, "after a non-finite update every further one makes it worse",
         "the update was skipped, the weights are finite and the next steps are normal"),
    Rule("over_optimised", _STOP, "the reward is over-optimised (up 10 % with the gold score down 5 %)",
         "the gold score recovers at the next two evaluations"),
    Rule("exploitation", _STOP, "all three signs of an exploited reward are there, and more steps buy more of it",
         "the changed completions are what you want"),
    Rule("update_too_aggressive", _STOP, "the policy is being pushed off its data; more steps like these undo more",
         "the reward is back at its level within a few steps"),
    Rule("miscalibrated_proxy", _STOP, "a KL that climbs while its coefficient rises will not come back by itself",
         "KL is back at its target within the next tens of steps"),
    Rule("kl_controller", _STOP, "KL has been above 3x its target for long", "KL falls towards its target", True),
    Rule("kl_explosion", _STOP, "the policy has left its reference",
         "KL falls back within a few steps, with entropy and the held-out score steady", True),
    Rule("entropy_collapse", _STOP, "the policy has stopped exploring",
         "the reward and the held-out score still rise: then it is convergence", True),
    Rule("entropy_explosion", _STOP, "the policy is on its way to random text", "entropy turns back by itself", True),
    Rule("update_imbalance", _STOP, "policy and critic have been out of step for very long",
         "the ratio returns to its healthy level", True),
    Rule("reward_degenerate", _STOP, "there is nothing to learn from, and the steps are wasted",
         "the rewards differ again within a few batches", True),
    Rule("length_preference", _ADJUST, "a length bias is moderate while the held-out score holds; a fall of it is not",
         "the completions read better, or the held-out score rises at the next evaluation"),
    Rule("length_exploitation", _ADJUST, "a moderate change of length can be steered back",
         "the held-out score rises with it"),
    Rule("kl_controller", _ADJUST, "a mild swing of KL around its target is the controller's to tune",
         "the swing gets smaller"),
    Rule("entropy_collapse", _ADJUST, "a slow decline of entropy is cheap to fix now and dear to fix later",
         "the reward and the held-out score rise: then it is convergence"),
    Rule("reward_drift", _ADJUST, "a long drift may be learning: the completions tell",
         "the completions got better, or the held-out score rises with the reward"),
    Rule("throughput", _ADJUST, "slow steps cost money, not the policy", "the cause is known and passes"),
)  # fmt: skip

_ANY_CRITICAL = Rule(
    "", _STOP, "a critical alert means that going on is likely to make it worse",
    "the signal is back at its level within a few steps and the completions are good", True,
)  # fmt: skip
_ANY_WARNING = Rule(
    "", _ADJUST, "a warning is cheap to fix now; the critical that may follow is not",
    "the completions are good and the signal goes back by itself",
)  # fmt: skip


def advise(alerts: Iterable[Alert], compounds: Iterable[Compound]) -> tuple[Advice, tuple[Rule, ...]]:
    """What to do, and the rules that say so, strongest case first."""
    told = list(alerts)
    criticals = [alert for alert in told if alert.critical]
    names, critical_names = _names(told), _names(criticals)
    names |= {compound.name for compound in compounds}
    found = [rule for rule in RULES if rule.about in (critical_names if rule.critical else names)]
    advice = Advice.STOP if criticals or any(rule.advice is Advice.STOP for rule in found) else Advice.ADJUST
    reasons = tuple(rule for rule in found if rule.advice is advice)
    return advice, reasons or (_ANY_CRITICAL if criticals else _ANY_WARNING,)


def _names(alerts: Collection[Alert]) -> set[str]:
    """All that rules may go by in these alerts: their detectors and signs."""
    return {alert.detector for alert in alerts}.union(*(signs_of(alert) for alert in alerts))
