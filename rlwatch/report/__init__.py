"""Pictures of a run, made from what it has recorded."""
