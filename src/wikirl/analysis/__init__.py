"""Numbers made of the numbers of runs: intervals, comparisons, times to a threshold. No files, no plots, no suite."""
