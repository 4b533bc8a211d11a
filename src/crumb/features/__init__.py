"""The feature store: what the frozen front makes of images, computed once."""
