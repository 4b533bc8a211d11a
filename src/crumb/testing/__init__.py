"""Conformance checks of methods, for any package.

from crumb.testing import check_learner

def test_my_method():
check_learner(MyMethod)
"""

from __future__ import annotations

from crumb.testing.conformance import CHECKS, check_learner, checks_of
from crumb.testing.variants import Variant, variants

__all__ = ["CHECKS", "Variant", "check_learner", "checks_of", "variants"]
