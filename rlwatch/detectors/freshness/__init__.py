"""Detectors that watch how old the rollouts are, and whether their sampler agrees with the trainer."""
