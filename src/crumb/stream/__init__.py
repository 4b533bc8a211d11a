"""Running a learner over a stream: batches, evaluation, results."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """Users call ``crumb.stream(...)``."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        from crumb.stream.call import stream

        return stream(*arguments, **settings)


sys.modules[__name__].__class__ = _Callable
