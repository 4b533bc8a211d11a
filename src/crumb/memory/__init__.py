"""Replay memory: what is kept of an exemplar, which exemplars are kept, how they are drawn."""
