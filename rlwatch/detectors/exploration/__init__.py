"""Detectors that watch how the policy explores."""
