"""Adapters turn a framework's step into an observation, and a verdict into the framework's way of acting."""
