"""Two runs, or two groups of runs over seeds: where and in which signal they part company."""
