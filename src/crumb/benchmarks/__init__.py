"""What Crumb costs, as ratios between two ways of doing the same thing in the same call."""
