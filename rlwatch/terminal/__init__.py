"""What a terminal shows of recorded runs: one of them live, or a list of all."""
