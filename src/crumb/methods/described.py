"""What a method says of itself, so that callers know how to treat it without making a learner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from crumb.methods.training import TrainingConfig

Ranges = Mapping[str, tuple[float, float]]
"""Least and largest value, above 0, by name of the setting."""


class Described:
    """The facts of a method; those that settings change are attributes of the learner as well."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """What it does against forgetting, in a line."""
    paper: ClassVar[str]
    """Authors, venue and year, or which bound it is."""
    keeps: ClassVar[str]
    """What it holds between batches besides one copy of the network."""
    Config: ClassVar[type] = TrainingConfig
    tuned: ClassVar[Ranges] = {}
    """The settings, at most two, that ``crumb tune`` searches besides ``lr``, which it searches
    where :attr:`trains`."""
    trains: ClassVar[bool] = True
    """Changes weights by gradient descent, with the settings of :class:`TrainingConfig`. A method
    that does not may return no loss."""
    usual_temperature: ClassVar[float] = 1.0
    """What scores are divided by where they become probabilities, before it is measured."""
    keeps_start: ClassVar[bool] = False
    """Can :meth:`reset`: initial weights are kept. They follow from the network as it was loaded,
    so they are not counted."""
    total_counts: ClassVar[bool] = False
    """``budget_bytes`` is meant to bound all bytes that are kept, ``extra`` ones as well, and a
    comparison does not rank the method where it kept more."""
    offline: ClassVar[bool] = False
    """Trains on everything so far at each task (an upper bound)."""
    needs_task_boundaries: bool = False
    """Is told when tasks begin and end."""
    needs_second_pass: bool = False
    """Reads a task again when it is over, so that it cannot learn in a single pass."""
    tested_after_task_end: bool = False
    """Predicts with what :meth:`end_task` makes, which a stream then calls before the last test of
    each task, the last one included; other learners are tested first, and are not told that the
    stream is over. Asks for :attr:`needs_task_boundaries`."""
    learns_at_task_end: bool = False
    """Trains in :meth:`end_task`; asks for :attr:`tested_after_task_end`."""
    least_epochs: int = 1
    """Readings of each task, where a stream would read it less often."""
    supports_best_epoch: ClassVar[bool] = True
    """Can go back to the best epoch: what a task adds to it are its parameters and nothing else."""
    needs_images: bool = False
    """Stores images: batches of the reading in which it stores hold them."""
    wants_images: bool = False
    """Learns from pixels, for augmentation or two views: all batches hold images, in every
    reading."""

    @classmethod
    def searched(cls) -> tuple[str, ...]:
        """Names of the settings that ``crumb tune`` searches."""
        return ("lr", *cls.tuned) if cls.trains else (*cls.tuned,)

    @classmethod
    def stores_exemplars(cls) -> bool:
        """Whether a budget in bytes says how much of the past it keeps."""
        return "budget_bytes" in cls.Config.__dataclass_fields__

    @classmethod
    def strict(cls) -> bool:
        """Whether it can learn with each frame shown once, storing exemplars on arrival."""
        return not (cls.needs_second_pass or cls.offline)

    @classmethod
    def boundaries(cls) -> str:
        """Whether it must be told where tasks begin and end, by default."""
        if cls.needs_task_boundaries or cls.offline:
            return "yes"
        return "in paper mode" if cls.leaves_policy_open() else "no"

    @classmethod
    def leaves_policy_open(cls) -> bool:
        """Whether exemplars are by default stored when the mode lets them be."""
        policy = cls.Config.__dataclass_fields__.get("write_policy")
        return policy is not None and policy.default is None

    @classmethod
    def over_budget(cls, total_bytes: int, budget: int) -> bool:
        """Whether it kept more, ``replay`` and ``extra`` together, than it may with a budget."""
        return cls.total_counts and total_bytes > budget
