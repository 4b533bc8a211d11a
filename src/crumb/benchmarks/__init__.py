"""Benchmarks of Crumb, as ratios of two ways to do the same work."""
