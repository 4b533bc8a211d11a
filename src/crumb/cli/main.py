"""The command ``crumb``: finds the subcommand, and turns every failure into one line."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from crumb import signals
from crumb.cli import described, usage
from crumb.cli.failures import explain, take_debug
from crumb.cli.flags import HELP, HelpAsked
from crumb.errors import InputError, Terminated, meant
from crumb.progress import announce

COMMANDS = {
    "learn": "learn a folder of clips, write a model",
    "teach": "teach a model another class, or undo that",
    "predict": "ask a model what a clip, an image or a camera shows",
    "forget": "take a class out of a model",
    "info": "describe a model file",
    "export": "write a model for a small device without PyTorch",
    "demo": "compare three methods on the sample clips",
    "index": "build a data set from a folder of videos",
    "data": "list, check and show data sets",
    "tasks": "write the file lists of a protocol",
    "pretrain": "pretrain the tail and the codebook",
    "stream": "stream a data set through a method and test it",
    "compare": "compare methods in the same number of bytes",
    "ablate": "run the ablation study of CRUMB or crumb2",
    "runs": "list runs, compare two results folders",
    "analyse": "inspect saved learners: blocks, reconstructions, shape and texture",
    "tune": "search the learning rate and other settings of a method",
    "report": "write a page about results: tables, figures, tests",
    "pareto": "show which results are the most accurate for their cost",
    "bench": "benchmark Crumb",
    "methods": "list the methods",
    "backbones": "list the backbones and what an exemplar of each takes",
    "presets": "list and show the settings of published experiments",
    "completion": "print the completion script of a shell",
}

# Commands that import torch, which takes seconds. A person sees at once that they have begun.
_HEAVY = COMMANDS.keys() - {
    *("index", "data", "tasks", "runs", "report", "pareto"),
    *("methods", "backbones", "presets", "completion"),
}
# What to do after an interruption, by command.
_AFTER = {
    "compare": "call it again: what is finished is not done again",
    "index": "call it again: what is finished is not done again",
    "demo": "call it again: what is finished is not done again",
    "ablate": "call it again: what is finished is not done again",
    "tune": "call it again: what is finished is not done again",
}
_NOTHING = "there is nothing to resume"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        the exit code: 0; 2 for anything that fails, which is told in one line (after a traceback,
        if ``--debug`` is among the words); 128 and the number of the signal when interrupted, so
        130 for Ctrl-C; 141 when what reads the output has stopped reading.
    """
    # Pillow's notes on EXIF tags and large images say nothing of the picture, which is read.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    _open_missing()
    strict = _take_any_text()
    debug, words = take_debug(sys.argv[1:] if arguments is None else arguments)
    arrived: list[int] = []
    handlers = _handle_signals(arrived)
    try:
        return _run(words, debug, arrived)
    except BrokenPipeError:
        _drop(sys.stdout)
        return 141
    finally:
        signals.restore(handlers)
        for stream, errors in strict:
            stream.reconfigure(errors=errors)


def _run(words: list[str], debug: bool, arrived: Sequence[int]) -> int:
    try:
        _dispatch(words)
        _flush()
    except BrokenPipeError:
        raise
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        if arrived:
            # A library has made an error of its own of what the signal raised in it.
            return _interrupted(words, arrived[0])
        _complain(f"crumb: {explain(error, words).in_flags()}")
        return 2
    except KeyboardInterrupt as signalled:
        return _interrupted(words, signal.SIGINT, *signalled.args[:1])
    except Terminated as signalled:
        return _interrupted(words, signalled.number, *signalled.args[:1])
    return 0


def _interrupted(words: list[str], number: int, after: str = _NOTHING) -> int:
    """Say what to do next; the exit code is the shell's for the signal."""
    _complain(f"\ncrumb: interrupted; {_AFTER.get(words[0], after)}")
    return 128 + number


def _complain(text: str) -> None:
    """Print to standard error, which may be a terminal that has been closed."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)
        _drop(sys.stdout)


def _flush() -> None:
    """Write what is printed; here, as at its end the interpreter can only complain.

    Raises:
        OSError: standard output cannot be written.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop(sys.stdout)
        raise InputError(
            "standard output", f"cannot be written ({error.strerror})", "free space"
        ) from error


def _drop(stream: TextIO) -> None:
    # The interpreter flushes once more at its end, and would complain then.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_missing() -> None:
    """A stream that the caller has closed is None, which nothing that prints expects."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115


def _take_any_text() -> list[tuple[TextIOWrapper, str]]:
    """From now on a character that a terminal or a pipe does not know is printed as its number.

    Names of files and classes may hold any, and a terminal may know 128.

    Returns:
        the streams, and what they did with such characters until now.
    """
    streams = [s for s in (sys.stdout, sys.stderr) if isinstance(s, TextIOWrapper)]
    before = [(stream, stream.errors or "strict") for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")
    return before


def _dispatch(words: list[str]) -> None:
    if words[:1] == ["help"]:
        words = [*(words[1:] if words[1:] != ["help"] else []), "--help"]
    if not words or words[0] in HELP:
        print(_help())
    elif words[0] in ("-V", "--version"):
        from crumb import __version__

        print(f"crumb {__version__}")
    elif words[0] in COMMANDS:
        try:
            described.check(words)
            if words[0] in _HEAVY and sys.stderr.isatty():
                announce(f"crumb {words[0]}: loading PyTorch")
            import_module(f"crumb.cli.{words[0]}").run(words[1:])
        except HelpAsked as asked:
            print(usage.text(asked.program, asked.about, asked.flags, asked.all))
    else:
        problem = f"unknown command{meant(words[0], COMMANDS)}"
        raise InputError(words[0], problem, f"choose one of {', '.join(COMMANDS)}")


def _handle_signals(arrived: list[int]) -> dict[signal.Signals, Any]:
    """Raise where a signal arrives, and note its number; one that is ignored stays ignored.

    Returns:
        the handlers until now.
    """

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        raise signals.interruption(number)

    return signals.handle(note)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {about}" for name, about in COMMANDS.items()]
    return "\n".join(
        [
            "usage: crumb COMMAND ...",
            "",
            "Learning from a stream without forgetting, in almost no memory.",
            "",
            *lines,
            "",
            "crumb help COMMAND shows what a command takes. Start with: crumb demo",
            "--debug also prints the traceback of a failure.",
        ]
    )
