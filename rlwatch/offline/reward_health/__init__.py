"""Reward health: what the rollouts of a run tell about its reward, each check with a verdict or the reason why not."""
