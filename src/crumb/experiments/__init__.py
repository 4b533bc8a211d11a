"""Experiments: a grid of runs, and the comparisons, ablations and searches built on it."""
