"""Data sets, the four task protocols, and file lists."""
