"""Detectors that watch the numbers themselves."""
