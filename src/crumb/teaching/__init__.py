"""Lessons on files: learn a folder, teach one more class, classify clips."""
