"""``crumb export``: write a model as a folder for a small device."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from crumb.cli.parsing import parse
from crumb.kinds import Argument
from crumb.methods.exporting import export
from crumb.methods.persistence import load_learner


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a model of slda or ncm as a folder that crumb-lite runs without PyTorch."""

    model: Annotated[Path, Argument(positional=True)]
    """Model file, written by crumb learn, crumb stream or learner.save."""
    output: Path | None = None
    """Folder to make. Default: name of the model without its ending, and -device."""

    @property
    def folder(self) -> Path:
        """The folder that is made."""
        return self.output or Path(f"{self.model.stem}-device")


def run(words: Sequence[str]) -> None:
    """Load the model, write the folder and print its files."""
    command = parse(Export, words, "crumb export")
    export(load_learner(command.model, "cpu"), command.folder, command.model)
    for path in sorted(command.folder.iterdir()):
        print(f"{path.name:18} {path.stat().st_size:>12,} bytes")
    print(f"\nnext: python -m crumb_lite predict {shlex.quote(str(command.folder))} CLIP")
