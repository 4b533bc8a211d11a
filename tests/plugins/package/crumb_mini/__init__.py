"""A package that adds to Crumb."""
