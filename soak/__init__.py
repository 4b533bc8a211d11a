"""The soak test: streams that are killed at any moment, and a million frames in one run."""
