"""What makes a training run differ from its repetition: in this environment, in this code, in a run's record."""
