"""Static properties of a method, which callers can read without building a learner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, TypeAlias

from crumb.memory.capacity import BY_MODE
from crumb.methods.training import TrainingConfig

Bounds: TypeAlias = tuple[float, float] | tuple[str, ...]
"""What a setting is searched in: the lowest and the highest value, both above 0 and whole if the
setting is, or the choices."""
Ranges: TypeAlias = Mapping[str, Bounds]
"""Bounds by name of the setting."""


class Described:
    """Static properties of a method. Those that depend on settings are also attributes of the
    learner.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    """How it counters forgetting, in one line."""
    paper: ClassVar[str]
    """Authors, venue and year, or the kind of bound."""
    keeps: ClassVar[str]
    """State kept between batches besides one copy of the network."""
    Config: ClassVar[type] = TrainingConfig
    tuned: ClassVar[Ranges] = {}
    """Settings, at most two, that ``crumb tune`` searches besides ``lr`` (which it searches if
    :attr:`trains`)."""
    trains: bool = True
    """Whether it trains by gradient descent with :class:`TrainingConfig`. Other methods may return
    no loss."""
    usual_temperature: ClassVar[float] = 1.0
    """Temperature of the probabilities before calibration."""
    keeps_start: ClassVar[bool] = False
    """Whether it keeps the initial weights for :meth:`reset`. They follow from the loaded network,
    so they do not count as memory."""
    total_counts: ClassVar[bool] = False
    """Whether ``budget_bytes`` bounds all stored bytes, including ``extra``. A comparison does not
    rank the method if it stores more."""
    needs_attention: ClassVar[bool] = False
    """Whether it refuses networks without attention layers after the cut."""
    offline: ClassVar[bool] = False
    """Whether it trains on all data so far at each task (an upper bound)."""
    needs_task_boundaries: bool = False
    """Whether it needs to know when tasks begin and end."""
    needs_second_pass: bool = False
    """Whether it reads a task again at its end, so it cannot learn in a single pass."""
    tested_after_task_end: bool = False
    """Whether predictions depend on :meth:`end_task`. A stream then calls it before the last test
    of each task, including the last task. Other learners are tested first, and the last task is not
    ended. Requires :attr:`needs_task_boundaries`."""
    learns_at_task_end: bool = False
    """Whether it trains in :meth:`end_task`. Requires :attr:`tested_after_task_end`."""
    least_epochs: int = 1
    """Minimum number of epochs of each task."""
    supports_best_epoch: bool = True
    """Whether it can restore the best epoch, because its parameters are its only state."""
    needs_images: bool = False
    """Whether it stores images. Batches of the pass in which it stores hold them."""
    wants_images: bool = False
    """Whether it learns from pixels (augmentation, two views). All batches then hold images."""

    @classmethod
    def searched(cls) -> tuple[str, ...]:
        """Names of the settings that ``crumb tune`` searches."""
        return ("lr", *cls.tuned) if cls.trains else (*cls.tuned,)

    @classmethod
    def stores_exemplars(cls) -> bool:
        """Whether a budget in bytes sets how much of the past it keeps."""
        return "budget_bytes" in cls.Config.__dataclass_fields__

    @classmethod
    def strict(cls) -> bool:
        """Whether it can learn online (single-pass), storing exemplars on arrival."""
        return not (cls.needs_second_pass or cls.offline)

    @classmethod
    def boundaries(cls) -> str:
        """Whether it needs task boundaries by default."""
        if cls.needs_task_boundaries or cls.offline:
            return "yes"
        return "in paper mode" if cls.decided_by_mode() else "no"

    @classmethod
    def decided_by_mode(cls) -> tuple[str, ...]:
        """Names of the settings that are None by default, so that the mode decides."""
        fields = cls.Config.__dataclass_fields__
        return tuple(name for name in BY_MODE if name in fields and fields[name].default is None)

    @classmethod
    def over_budget(cls, total_bytes: int, budget: int) -> bool:
        """Whether ``replay`` and ``extra`` together exceed the budget."""
        return cls.total_counts and total_bytes > budget
