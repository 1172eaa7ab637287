"""Detectors that watch the machine: time and memory."""
