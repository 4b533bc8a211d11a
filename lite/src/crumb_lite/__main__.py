"""``python -m crumb_lite``: predict with a model, teach it, describe it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from crumb_lite.errors import InputError
from crumb_lite.model import Model, canonical, load


def main(words: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        the exit code: 0, or 2 for bad input, which is told in one line.
    """
    given = _parser().parse_args(words)
    try:
        model = load(given.folder, given.threads)
        {"predict": predict, "teach": teach, "forget": forget, "info": info}[given.command](
            model, given
        )
    except InputError as error:
        print(f"crumb_lite: {error.in_flags()}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m crumb_lite", description=__doc__)
    parser.add_argument("--threads", type=int, default=0, help="threads; 0 for one per core")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (
        ("predict", "classify clips and images"),
        ("teach", "teach a new or known class from clips and images"),
        ("forget", "remove a class"),
        ("info", "list the classes"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument("folder", type=Path, help="folder that crumb export wrote")
        if name in ("teach", "forget"):
            command.add_argument("label", help="name of the class")
        if name in ("predict", "teach"):
            command.add_argument("files", nargs="+", type=Path, help="clips and images")
    return parser


def predict(model: Model, given: argparse.Namespace) -> None:
    """Print one line for each file."""
    for path in given.files:
        (chances,) = model.probabilities(path)
        best, *others = (-chances).argsort(kind="stable").tolist()
        found = f"{model.classes[best]} {100 * chances[best]:.0f} %"
        if others:
            found += f", else {model.classes[others[0]]} {100 * chances[others[0]]:.0f} %"
        print(f"{path}: {found}", flush=True)


def teach(model: Model, given: argparse.Namespace) -> None:
    """Learn all files as one class, save, and print the effect on the other classes."""
    name = canonical(given.label)
    kind = "known before" if name in model.classes else "a new class"
    before = model.self_test()
    frames = sum(model.observe(path, name) for path in given.files)
    model.save()
    print(f"taught {name} ({kind}) from {_counted(frames)}")
    for known, after in model.self_test().items():
        was = before.get(known)
        if was is not None and after is not None:
            print(
                f"{known}: {was:.0f} % of its stored features recognised before, {after:.0f} % now"
            )


def forget(model: Model, given: argparse.Namespace) -> None:
    """Remove a class, save, and print the classes that are left."""
    model.forget(given.label)
    model.save()
    print(f"forgot {canonical(given.label)}; classes left: {', '.join(model.classes) or 'none'}")


def info(model: Model, _: argparse.Namespace) -> None:
    """Print method, dimensions and classes."""
    print(f"method {model.method}, {model.directions.shape[1]} dimensions")
    for name, frames in zip(model.classes, model.moments.counts.tolist(), strict=True):
        print(f"{name}: {_counted(frames)}")


def _counted(frames: int) -> str:
    return f"{frames} frame" if frames == 1 else f"{frames} frames"


if __name__ == "__main__":
    sys.exit(main())
