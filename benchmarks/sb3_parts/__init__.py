"""The parts of sb3_overhead.py."""
