"""``crumb info``: describe a model file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from crumb.cli.parsing import parse
from crumb.files import is_folder
from crumb.kinds import Argument
from crumb.methods.base import Learner
from crumb.methods.closed_form import ClosedForm
from crumb.methods.persistence import load_learner
from crumb.reports.table import plain
from crumb.teaching.files import former
from crumb.teaching.lesson import self_test


@dataclass(frozen=True, kw_only=True)
class Info:
    """Print the method, network, classes and size of a model."""

    model: Annotated[Path, Argument(positional=True)]
    """Model file."""


def run(words: Sequence[str]) -> None:
    """Print method, network, size and classes."""
    command = parse(Info, words, "crumb info")
    learner = load_learner(command.model, "cpu")
    for name, value in _facts(learner, command.model):
        print(f"{name + ':':12} {value}")
    print()
    print(_classes(learner))
    if former(command.model) is not None:
        print("\nTo undo the last lesson: crumb teach MODEL --undo")


def _facts(learner: Learner, model: Path) -> list[tuple[str, str]]:
    held, shape = learner.bytes_held(), learner.network.feature_shape
    size, resize, interpolation = learner.network.preprocessing.square
    facts = [
        ("method", f"{learner.name} ({learner.summary}; {learner.paper})"),
        ("network", f"{learner.network.config.backbone}, cut at {learner.network.backbone.cut}"),
        ("input", f"{size} x {size} pixels ({resize}, {interpolation})"),
        ("features", " x ".join(map(str, shape))),
        ("memory", f"{held.replay + held.extra:,} bytes beside the network"),
        ("file", f"{_bytes_of(model):,} bytes"),
        ("temperature", f"{learner.temperature:.2f}"),
    ]
    if (digest := learner.network.weights_sha256) is not None:
        weights = f"{learner.network.config.weights}, SHA-256 {digest}"
        facts.insert(2, ("weights", weights))
    if isinstance(learner, ClosedForm):
        facts.insert(-2, ("dimensions", str(learner.dimensions)))
    return facts


def _bytes_of(model: Path) -> int:
    """Bytes of a model file, or of all files of an exported folder."""
    files = model.iterdir() if is_folder(model) else [model]
    return sum(file.stat().st_size for file in files)


def _classes(learner: Learner) -> str:
    tested = self_test(learner)
    rows = []
    for label, name in enumerate(learner.classes):
        frames = (
            f"{int(learner.moments.counts[label]):,}" if isinstance(learner, ClosedForm) else "-"
        )
        share = tested[name]
        rows.append([name, frames, "-" if share is None else f"{share:.0f}"])
    return plain(["class", "frames", "self-test, %"], rows).text()
