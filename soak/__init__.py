"""The soak test: streams that are killed at random moments, and a run over a million frames."""
