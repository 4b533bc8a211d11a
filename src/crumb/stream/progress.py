"""Progress messages for long work."""

from __future__ import annotations

import sys


def announce(line: str) -> None:
    """Print progress if the output is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{line}\n")
