"""A network up to its head as an ONNX model, and the same followed by a linear classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from crumb.nets.export import ExportError, to_onnx
from crumb.portable import FEATURES, INPUT, PROBABILITIES

if TYPE_CHECKING:
    from crumb.nets.split import SplitNetwork


class _Pooled(nn.Module):
    """From pixels to what enters the head: uint8 [N, S, S, 3] to float32 [N, D]."""

    def __init__(self, network: SplitNetwork) -> None:
        super().__init__()
        self.network = network
        mean, std = network.preprocessing.mean, network.preprocessing.std
        self.mean, self.std = (torch.tensor(one).view(1, 3, 1, 1) for one in (mean, std))

    def forward(self, images: Tensor) -> Tensor:
        values = (images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        return self.network.penultimate(self.network.front(values))


def export_pooled(network: SplitNetwork) -> bytes:
    """Export everything before the head, for any number of images.

    Args:
        network: on the CPU.

    Returns:
        an ONNX model: ``images``, uint8 [N, S, S, 3] in RGB, to ``features``, float32 [N, D]. It
            divides by 255 and normalises. Resizing is left to the caller, because ONNX has no
            operation that resizes as Pillow does.

    Raises:
        ExportError: the exporter does not know an operation of the network.
    """
    side, maps = network.preprocessing.size, network.maps
    # The tracer would take a batch of one for a constant.
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    mode = network.training
    try:
        return to_onnx(_Pooled(network.eval()), example, INPUT, FEATURES, any_number=True)
    finally:
        network.train(mode)
        network.maps = maps


def with_classifier(
    front: bytes,
    weights: np.ndarray,
    bias: np.ndarray,
    root: bool,
    metadata: dict[str, str],
) -> bytes:
    """Append a linear classifier to a model of :func:`export_pooled`.

    Args:
        front: the model.
        weights: float32 [D, classes].
        bias: float32 [classes]; minus infinity for a class that is never predicted.
        root: replace each feature by its signed square root first.
        metadata: of the result.

    Returns:
        an ONNX model: ``images`` to ``probabilities``, float32 [N, classes].

    Raises:
        ExportError: the package onnx cannot read the model.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    try:
        model = onnx.load_from_string(front)
    # What is raised depends on the version of protobuf.
    except Exception as error:
        raise ExportError(f"onnx cannot read it: {error}") from error
    graph, entering = model.graph, FEATURES
    nodes: list[Any] = []
    if root:
        entering = "rooted"
        nodes = [
            helper.make_node("Abs", [FEATURES], ["size"]),
            helper.make_node("Sqrt", ["size"], ["root"]),
            helper.make_node("Sign", [FEATURES], ["sign"]),
            helper.make_node("Mul", ["sign", "root"], [entering]),
        ]
    nodes += [
        helper.make_node("Gemm", [entering, "class_weights", "class_bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [PROBABILITIES], axis=1),
    ]
    graph.node.extend(nodes)
    for name, value in (("class_weights", weights), ("class_bias", bias)):
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    del graph.output[:]
    shape = ["N", len(bias)]
    graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, shape))
    helper.set_model_props(model, metadata)
    return model.SerializeToString()
