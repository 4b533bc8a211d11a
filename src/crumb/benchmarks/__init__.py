"""Benchmarks of Crumb as ratios between two ways of doing the same work."""
