"""Detectors that watch the policy update."""
