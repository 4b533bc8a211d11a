"""What is said of long work while it goes on."""

from __future__ import annotations

import sys


def announce(line: str) -> None:
    """Say what is done, to a person; nothing where there is no terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{line}\n")
