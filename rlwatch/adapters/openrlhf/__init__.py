"""OpenRLHF (0.11): `python -m rlwatch.adapters.openrlhf train_ppo_ray <your flags>`, or two lines in your own code.

    from rlwatch.adapters import openrlhf
    openrlhf.install(on_critical="halt")       # before PPOTrainer is imported

- launching.py: the command line; installing.py: a subclass of the real trainer in its place, and whether the seams
  that it uses are there; terms.py: what the driver settles and the Ray actor is told
- watched.py: the subclasses; session.py: the Watch of a run, the row of each step, the decision on it
- samples.py: rewards, advantages, lengths, texts of the Experience batch; fixes.py: preset, fixes by flag
- ending.py: the end-of-data path, by which a run stops; inbox.py: the same between the two actors of async training
- checkpoints.py: the checkpoints on disk and our state beside each; going_back.py, turning.py: rollback and remedy
- workers.py: what runs inside OpenRLHF's model actors; withholding.py: a NaN loss stays out of the weights there;
  norms.py: how far the updates move them

Tested with OpenRLHF 0.11.2 (ray 2.55.0, deepspeed 0.19.6, transformers 5.15.0).
"""

from __future__ import annotations

from rlwatch.adapters.openrlhf.installing import install, watched

__all__ = ["install", "watched"]
