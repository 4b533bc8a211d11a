"""Standard error without the lines that tell how far the work is."""

from __future__ import annotations

import re

_PROGRESS = re.compile(r"\w+ run \d+[:,] |\d+ of \d+: |features: ")


def complaints(errors: str) -> list[str]:
    """The other lines, without empty ones."""
    return [one for one in errors.splitlines() if one.strip() and not _PROGRESS.match(one)]
