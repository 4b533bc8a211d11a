"""Data sets, the four task protocols, and the file lists that hold their result."""
