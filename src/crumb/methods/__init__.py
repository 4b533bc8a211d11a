"""Learning methods, one file each, found through the registry."""
