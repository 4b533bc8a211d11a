"""Where features are kept: the choices, for settings that do not wait for torch."""

from __future__ import annotations

from typing import Literal

CacheKind = Literal["auto", "memory", "disk", "off"]
