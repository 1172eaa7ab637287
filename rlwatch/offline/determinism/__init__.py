"""`rlwatch check-determinism`: does a training command, run again, log the same numbers?"""
