"""The codebook of memory blocks: initialisers, assignment, reconstruction, statistics."""
