"""Engines that compute an exported front instead of torch, behind one interface.

An engine gets the front as an ONNX model (:mod:`crumb.nets.export`) with batch size 1, which is
faster than a model with a variable batch size (benchmarks/README.md). The features of an image
therefore never depend on other images. :mod:`crumb.nets.fronts` chooses the engine.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from crumb.device import cores

INPUT = "images"
"""Name of the model's input."""
# Log level of ONNX Runtime that hides warnings.
_ERRORS = 3


class Engine(ABC):
    """A loaded front. Several threads may call it at once.

    Args:
        model: ONNX model made by :func:`crumb.nets.export.export`.
    """

    name: ClassVar[str]
    install: ClassVar[str]
    """Argument of pip install."""

    def __init__(self, model: bytes) -> None:
        self._model = model

    def __call__(self, values: Tensor) -> Tensor:
        """Compute the front image by image, on as many threads as torch uses here.

        Args:
            values: preprocessed images on the CPU, float32 [B, 3, S, S].

        Returns:
            feature maps, float32 [B, C, H, W].
        """
        if not len(values):
            # The first feature map gives the shape.
            return self(values.new_zeros(1, *values.shape[1:]))[:0]
        images = values.contiguous().split(1)
        return torch.cat([torch.from_numpy(self._compute(one.numpy())) for one in images])

    @abstractmethod
    def _compute(self, image: np.ndarray) -> np.ndarray:
        """Compute the front of one image, [1, 3, S, S] to a new array [1, C, H, W]."""


class OnnxRuntime(Engine):
    """ONNX Runtime on the CPU."""

    name = "onnxruntime"
    install = "onnxruntime onnx"

    def __init__(self, model: bytes) -> None:
        super().__init__(model)
        self._sessions: dict[int, Any] = {}

    def _compute(self, image: np.ndarray) -> np.ndarray:
        threads = torch.get_num_threads()
        if threads not in self._sessions:
            self._sessions[threads] = self._open(threads)
        return self._sessions[threads].run(None, {INPUT: image})[0]

    def _open(self, threads: int) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads take the processor from other work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _ERRORS
        return onnxruntime.InferenceSession(
            self._model, options, providers=["CPUExecutionProvider"]
        )


class OpenVino(Engine):
    """OpenVINO on the CPU. It computes in float32 even if the processor has a shorter type."""

    name = "openvino"
    install = "'crumb-learn[openvino]'"

    def __init__(self, model: bytes) -> None:
        super().__init__(model)
        self._compiled: dict[int, Any] = {}
        self._compiling = threading.Lock()
        # A request computes one image at a time, so each thread has its own.
        self._held = threading.local()

    def _compute(self, image: np.ndarray) -> np.ndarray:
        requests = self._held.__dict__.setdefault("requests", {})
        threads = torch.get_num_threads()
        if threads not in requests:
            with self._compiling:
                if threads not in self._compiled:
                    self._compiled[threads] = self._open(threads)
            requests[threads] = self._compiled[threads].create_infer_request()
        return requests[threads].infer([image], share_inputs=True)[0]

    def _open(self, threads: int) -> Any:
        # Imported by name, because type checkers do not find an extra that is not installed.
        openvino = import_module("openvino")
        core = openvino.Core()
        # There is one request per core. A further call waits.
        streams = max(1, cores() // threads)
        settings = {
            "INFERENCE_NUM_THREADS": streams * threads,
            "NUM_STREAMS": streams,
            "INFERENCE_PRECISION_HINT": "f32",
            # Otherwise several processes are pinned to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        return core.compile_model(core.read_model(self._model), "CPU", settings)


ENGINES: dict[str, type[Engine]] = {kind.name: kind for kind in (OnnxRuntime, OpenVino)}
"""All engines but torch, by name."""


def is_installed(name: str) -> bool:
    """Whether an engine is installed and has a known version."""
    with suppress(ValueError):
        spec = find_spec(name)
        # A folder of that name in the working directory has no origin.
        return spec is not None and spec.origin is not None and _version(name) is not None
    return False


def version_of(name: str) -> str:
    """Name and version of an installed engine, such as ``onnxruntime 1.32.0``."""
    return f"{name} {_version(name)}"


def _version(name: str) -> str | None:
    """The version of a package; None if it has none or cannot be imported."""
    try:
        return version(name)
    except PackageNotFoundError:
        pass
    # For some processors, the distribution and the package have different names.
    try:
        return import_module(name).__version__
    # A broken installation may raise anything.
    except Exception:
        return None
