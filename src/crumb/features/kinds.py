"""Choices for where to cache features. This module does not import torch."""

from __future__ import annotations

from typing import Literal

CacheKind = Literal["auto", "memory", "disk", "off"]
