"""User rules: one-line guards over any signal, as `kl > 0.35 for 5` or `mean(reward_mean, 12) < -0.2: warning`.

`tokens` and `grammar` read a rule into `text`, `names` finds the signal that a name means, `rolling` and `compiled`
evaluate it, and `rule` makes a detector of it, behind the same gate as every other.
"""

from __future__ import annotations

from rlwatch.rules.grammar import parse
from rlwatch.rules.text import RuleError, RuleText

__all__ = ["RuleError", "RuleText", "parse"]
