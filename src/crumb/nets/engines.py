"""Engines that compute an exported front instead of torch, behind one call.

An engine gets the front as an ONNX model (:mod:`crumb.nets.export`) of one image, which is faster
than a model of any number of them (benchmarks/README.md). So the features of an image never depend
on what goes through the front beside it. Which engine is used is decided in
:mod:`crumb.nets.fronts`.
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
"""Name of the input of a model."""
# Of the levels of ONNX Runtime's log, the first that is not a warning.
_ERRORS = 3


class Engine(ABC):
    """A loaded front. Several threads may call it at once.

    Args:
        model: of :func:`crumb.nets.export.export`.
    """

    name: ClassVar[str]
    install: ClassVar[str]
    """What pip is to install."""

    def __init__(self, model: bytes) -> None:
        self._model = model

    def __call__(self, values: Tensor) -> Tensor:
        """The front, image by image, on as many threads as torch uses in the calling thread.

        Args:
            values: preprocessed images on the CPU, float32 [B, 3, S, S].

        Returns:
            what crosses the cut, float32 [B, C, H, W].
        """
        if not len(values):
            # The shape of a feature map is known once there is one.
            return self(values.new_zeros(1, *values.shape[1:]))[:0]
        images = values.contiguous().split(1)
        return torch.cat([torch.from_numpy(self._compute(one.numpy())) for one in images])

    @abstractmethod
    def _compute(self, image: np.ndarray) -> np.ndarray:
        """The front of one image, [1, 3, S, S] to [1, C, H, W]; the result is the caller's."""


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
        # Threads that spin while they wait take the processor from other work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _ERRORS
        return onnxruntime.InferenceSession(
            self._model, options, providers=["CPUExecutionProvider"]
        )


class OpenVino(Engine):
    """OpenVINO on the CPU, in float32 also where the processor has a shorter type."""

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
        # By name, because type checkers do not find an extra that is not installed.
        openvino = import_module("openvino")
        core = openvino.Core()
        # As many calls at once as there are cores for. A further one would wait.
        streams = max(1, cores() // threads)
        settings = {
            "INFERENCE_NUM_THREADS": streams * threads,
            "NUM_STREAMS": streams,
            "INFERENCE_PRECISION_HINT": "f32",
            # Several processes would be pinned to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        return core.compile_model(core.read_model(self._model), "CPU", settings)


ENGINES: dict[str, type[Engine]] = {kind.name: kind for kind in (OnnxRuntime, OpenVino)}
"""All engines but torch, by name."""


def is_installed(name: str) -> bool:
    """Whether an engine is on this machine and its version is known."""
    with suppress(ValueError):
        spec = find_spec(name)
        # A folder of that name in the working directory has no origin.
        return spec is not None and spec.origin is not None and _version(name) is not None
    return False


def version_of(name: str) -> str:
    """Name and version of an engine that is installed, such as ``onnxruntime 1.32.0``."""
    return f"{name} {_version(name)}"


def _version(name: str) -> str | None:
    """The version of a package; None if it has none or cannot be imported."""
    try:
        return version(name)
    except PackageNotFoundError:
        pass
    # Distributions for some processors have another name than the package that they install.
    try:
        return import_module(name).__version__
    # What a broken installation raises is not known.
    except Exception:
        return None
