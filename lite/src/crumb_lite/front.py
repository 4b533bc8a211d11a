"""The network up to its head, in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from crumb_lite.errors import InputError
from crumb_lite.portable import INPUT

_ERRORS = 3
"""Of the levels of ONNX Runtime's log, the first that is not a warning."""


class Front:
    """Features of images.

    Args:
        path: ``front.onnx``.
        threads: number of threads; 0 for one per core.

    Raises:
        InputError: ONNX Runtime cannot run it.
    """

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that spin while they wait take the processor from other work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _ERRORS
        providers = ["CPUExecutionProvider"]
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers)
        # What it raises depends on what it lacks.
        except Exception as error:
            reason = str(error).partition("\n")[0]
            problem = f"cannot be run by ONNX Runtime ({reason})"
            raise InputError(path, problem, "install a later onnxruntime") from error

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Images, uint8 [n, S, S, 3], to features, float32 [n, D].

        One image at a time takes the least memory.
        """
        found = [self._session.run(None, {INPUT: one[None]})[0] for one in images]
        return np.concatenate([np.asarray(one) for one in found])
