"""Logged trajectories: flat arrays, where they come from, and the windows that training draws from them.

Read in this order: `dataset` (what a dataset is), `sampling` (how windows are drawn), `sources` (how an id
becomes a dataset); then `storage`, `transforms`, the readers `d4rl`, `minari`, `pickles`, `arrays`, `importing` for
everybody's own logs, and `checking`, which tells whether a dataset is sound.
"""
