"""Experiments: grids of runs for comparisons, ablation studies and hyperparameter searches."""
