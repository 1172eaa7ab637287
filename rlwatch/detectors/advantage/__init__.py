"""Detectors that watch the training signal made from the reward."""
