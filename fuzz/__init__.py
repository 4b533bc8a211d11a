"""Fuzzing of everything that reads foreign bytes; see README.md in this folder."""
