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
    # What preference losses have not (rollouts, advantages) is told as starved, not switched off: Online-DPO has it.
    "dpo": {},
    # Classical control: returns rise by orders of magnitude, and the gradient of the value loss with them.
    "classic": {"gradient_spike": {"severity": "warning"}},
}
