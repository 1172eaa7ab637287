"""After the run: recorded logs replayed through the same Watch that rides in training."""
