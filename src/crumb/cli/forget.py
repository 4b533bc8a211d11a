"""``crumb forget``: remove a class from a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from crumb.cli.parsing import parse
from crumb.cli.teach import tell_changes
from crumb.errors import about
from crumb.kinds import Argument
from crumb.methods.persistence import load_learner
from crumb.teaching.files import held, replace_model
from crumb.teaching.lesson import changes, self_test


@dataclass(frozen=True, kw_only=True)
class Forget:
    """Remove a class from a model and leave the other classes unchanged."""

    model: Annotated[Path, Argument(positional=True)]
    """Model file."""
    label: Annotated[str, Argument(positional=True)]
    """Name of the class."""


def run(words: Sequence[str]) -> None:
    """Remove the class and print the classes that are left."""
    command = parse(Forget, words, "crumb forget")
    with held(command.model) as file:
        learner = load_learner(file)
        before = self_test(learner)
        with about(command.model):
            learner.forget(command.label)
        replace_model(learner, file)
    left = ", ".join(learner.classes) or "none"
    print(f"forgot {command.label}; classes left: {left}")
    tell_changes(changes(before, learner))
