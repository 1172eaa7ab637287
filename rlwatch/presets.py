"""Named defaults for an algorithm: what a preset changes, and nothing else.

The defaults are made for LLM post-training with GRPO-like methods, so `grpo` and `rlvr` change nothing yet.
"""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "grpo": {},
    "rlvr": {},
    # Rewards of a learned model are continuous; the importance ratio and approx_kl come with every update.
    "ppo": {},
    # Preference losses have no rollouts: the implicit rewards are log-ratios that grow for as long as it learns.
    "dpo": {"reward_drift": {"enabled": False}, "reward_bimodality": {"enabled": False}},
    # Classical control: returns rise by orders of magnitude, and the gradient of the value loss with them.
    "classic": {"gradient_spike": {"severity": "warning"}},
}
