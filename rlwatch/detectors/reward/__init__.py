"""Detectors that watch the reward."""
