"""The sections of `benchmarks/overhead.py`: each has `measure(options) -> dict` and `show(result)`."""
