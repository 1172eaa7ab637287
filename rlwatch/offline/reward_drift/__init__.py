"""Reward drift: two reward models, or two versions of one, on the same prompts."""
