"""One run, looked at as a whole: its log, its checkpoints, its record; a score, a verdict, what to do next."""
