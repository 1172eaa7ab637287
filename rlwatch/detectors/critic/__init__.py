"""Detectors that watch the value function and its pace."""
