"""Fronts exported as ONNX models, kept in the user's cache folder.

The folder is ``crumb/fronts`` in ``$XDG_CACHE_HOME``, by default ``~/.cache``. For each front it
holds NAME.onnx, and NAME.json with the SHA-256 of the model. It can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import torch
from torch import Tensor, nn
from torch.jit import TracerWarning  # pyright: ignore[reportPrivateImportUsage]

from crumb.errors import InputError
from crumb.files import bytes_of, read_json, write_bytes, write_json
from crumb.locks import alone
from crumb.nets.engines import INPUT

if TYPE_CHECKING:
    from crumb.nets.split import SplitNetwork

FORMAT, VERSION = "crumb-front", 1
OPSET = 18
CACHE_BYTES = 1 << 30
"""Maximum bytes of all models together. The least recently used models are removed first."""
CHOICES = 1000
"""Maximum number of files with a choice of ``auto``."""
_LEFT_SECONDS = 3600
_REMEDY = "remove it"


class ExportError(Exception):
    """The front cannot be exported. The message gives the reason in a few words."""


def cache_folder() -> Path | None:
    """Folder of the exported fronts; None for a user without a home directory."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(base) / "crumb" / "fronts"


def structure(network: SplitNetwork) -> list[str]:
    """Description of a front without its weights, and of the exporter."""
    front, size, library = network.front, network.preprocessing.size, network.backbone.library
    modules = [f"{name} {module!r}" for name, module in front.named_children()]
    return [
        f"{FORMAT} {VERSION}, opset {OPSET}, torch {torch.__version__}",
        f"{library} {_version(library)} {network.backbone.model}, {size} pixels",
        str(front.code),
        # The class of the front is left out, because a copy has another class name.
        *modules,
    ]


def _version(library: str) -> str:
    """Version of the package that built the network; empty if it is unknown."""
    try:
        return version(library.partition(":")[0].partition(".")[0])
    except PackageNotFoundError:
        return ""


def name_of(network: SplitNetwork) -> str:
    """Digest of everything that the exported model depends on, 16 hexadecimal digits."""
    digest = hashlib.sha256(repr(structure(network)).encode())
    for name, value in network.front.state_dict().items():
        digest.update(name.encode())
        digest.update(bytes_of(value.cpu().contiguous()))
    return digest.hexdigest()[:16]


def exported(network: SplitNetwork) -> bytes:
    """The front of a network as an ONNX model, read from the cache if it is there and undamaged.

    Raises:
        ExportError: it cannot be exported.
    """
    name, folder = name_of(network), cache_folder()
    if folder is not None and (found := _read(folder, name)) is not None:
        return found
    model = export(network)
    if folder is not None:
        # Without a cache, the front is exported again the next time.
        with contextlib.suppress(InputError, OSError):
            about = {"format": FORMAT, "version": VERSION, "sha256": _sha256(model)}
            about |= {"backbone": network.config.backbone, "cut": network.config.cut}
            write_bytes(folder / f"{name}.onnx", model, _REMEDY)
            write_json(folder / f"{name}.json", about, _REMEDY)
            _make_room(folder)
    return model


def export(network: SplitNetwork) -> bytes:
    """Export the front with batch size 1.

    Torch has two exporters. This one takes 0.1 to 1.7 s for the networks of the tests. The other
    takes 2 to 31 s and needs two more packages.

    Raises:
        ExportError: the exporter does not support an operation of the front, or lacks a package.
    """
    side = network.preprocessing.size
    return to_onnx(network.front, torch.zeros(1, 3, side, side), INPUT, "features")


def to_onnx(
    module: nn.Module, example: Tensor, input_name: str, output_name: str, any_number: bool = False
) -> bytes:
    """Export a module of one input and one output as an ONNX model.

    Args:
        module: in eval mode, on the CPU.
        example: an input.
        input_name: name of the input.
        output_name: name of the output.
        any_number: let the first dimension have any length, instead of that of the example.

    Raises:
        ExportError: the exporter does not know an operation of the module, or lacks a package.
    """
    file, axes = io.BytesIO(), {0: "N"}
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                module,
                (example,),
                file,  # pyright: ignore[reportArgumentType]
                dynamo=False,
                opset_version=OPSET,
                input_names=[input_name],
                output_names=[output_name],
                dynamic_axes={input_name: axes, output_name: axes} if any_number else None,
            )
    # The type of the exception depends on the operation.
    except Exception as error:
        raise ExportError(str(error).strip().partition("\n")[0] or type(error).__name__) from error
    return file.getvalue()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the exporter prints: a notice that it is the older one, and failed graphs.

    Output of other threads is not hidden.
    """
    with (
        contextlib.redirect_stdout(_OthersOnly(sys.stdout)),
        contextlib.redirect_stderr(_OthersOnly(sys.stderr)),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", module=r"torch\.")
        yield


class _OthersOnly(io.TextIOBase):
    """A stream that passes on only the output of other threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._silent = stream, threading.get_ident()

    def write(self, text: str) -> int:
        silent = threading.get_ident() == self._silent
        return len(text) if silent else self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()


def _read(folder: Path, name: str) -> bytes | None:
    """A model from the cache; None if it is missing or damaged."""
    path = folder / f"{name}.onnx"
    try:
        about = read_json(folder / f"{name}.json", _REMEDY)
        model = path.read_bytes()
        if about.get("sha256") != _sha256(model):
            return None
        note_use(path)
    except (InputError, OSError):
        return None
    return model


def note_use(path: Path) -> None:
    """Mark a file as used now. The least recently used files are removed first."""
    # A read-only folder is useful too.
    with contextlib.suppress(OSError):
        os.utime(path)


@contextlib.contextmanager
def cache_alone() -> Iterator[None]:
    """A lock against other processes that choose an engine; no lock without a folder."""
    with contextlib.ExitStack() as stack:
        if (folder := cache_folder()) is not None:
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(alone(folder))
        yield


def _make_room(folder: Path) -> None:
    """Remove the least recently used files that exceed the limits."""
    for path in folder.glob(".*.part"):
        # Left by a killed process: writing a model takes only seconds.
        if time.time() - path.stat().st_mtime > _LEFT_SECONDS:
            path.unlink(missing_ok=True)
    for path in _by_use(folder, "choice_*.json")[CHOICES:]:
        path.unlink(missing_ok=True)
    total = 0
    for place, path in enumerate(_by_use(folder, "*.onnx")):
        total += path.stat().st_size
        # The newest file stays, whatever its size.
        if place and total > CACHE_BYTES:
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)


def _by_use(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)


def _sha256(model: bytes) -> str:
    return hashlib.sha256(model).hexdigest()
