"""The feature store: feature maps of images, computed once."""
