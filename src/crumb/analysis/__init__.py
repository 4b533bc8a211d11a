"""Analyses of saved learners, as figures and tables."""
