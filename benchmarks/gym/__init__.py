"""The failure gym: real training runs that fail for real reasons, and their healthy twins.

`python -m benchmarks.gym --help`; what a fault is stands in `faults.py`, what is measured in `outcome.py`.
"""
