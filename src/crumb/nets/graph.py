"""Cut the call graph of a network in two.

The cut is found in the traced call graph, so no model needs special code.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from torch import fx, nn

from crumb.errors import InputError, setting
from crumb.nets.crossing import only_crossing
from crumb.nets.probe import first_line
from crumb.nets.subgraph import subgraph


class _CutTracer(fx.Tracer):
    """Traces only into modules that contain the cut, so that nearly every forward can be traced."""

    def __init__(self, cut: str) -> None:
        super().__init__()
        self._cut = cut

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self._cut.startswith(module_qualified_name + ".")


def split(
    model: nn.Module, cut: str, at_input: bool = False, size: int = 224
) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Cut ``model`` before the layer ``cut``.

    Args:
        model: the whole classifier.
        cut: dotted name of a layer.
        at_input: cut before the first layer instead, so that the front computes nothing.
        size: side of the images in pixels. If values that depend on it cross the cut, the parts
            work only for this size.

    Returns:
        front and tail. Their state dicts keep the model's names. Together they compute the model.

    Raises:
        InputError: no such layer, it is not called, or more than one value crosses the cut.
    """
    subject = setting("cut", cut)
    layers = [name for name, _ in model.named_modules() if name]
    if cut not in layers:
        raise InputError(subject, "no such layer", f"choose one of {', '.join(_near(cut, layers))}")
    try:
        graph = _CutTracer(cut).trace(model, _usual_arguments(model))
    # Foreign code may raise anything.
    except Exception as error:
        problem = f"the network cannot be traced there ({first_line(error)})"
        raise InputError(subject, problem, "choose an outer layer") from error
    nodes = list(graph.nodes)
    start = next((i for i, node in enumerate(nodes) if node.target == cut), None)
    if start is None:
        raise InputError(
            subject, "the network never calls it on its own", "choose its parent layer"
        )
    crossing = only_crossing(model, graph, start, None if at_input else size)
    feature = nodes[0] if at_input else crossing
    # The features belong to the caller, so no layer may change them in place.
    leave_unchanged(feature, model)
    front = subgraph(model, end=feature, start=None, name="Front")
    return front, subgraph(model, end=nodes[-1], start=feature, name="Tail")


def _usual_arguments(model: nn.Module) -> dict[str, object]:
    """Default arguments of its forward; a traced mask would no longer be None."""
    parameters = list(inspect.signature(model.forward).parameters.values())[1:]
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def leave_unchanged(value: fx.Node, model: nn.Module) -> None:
    """Make the layers of ``model`` that use this value not change it in place."""
    for node in value.users:
        layer = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        if layer is not None and "inplace" in vars(layer):
            vars(layer)["inplace"] = False


def _near(cut: str, layers: Sequence[str]) -> list[str]:
    """Existing layers near the requested name: the children of its longest existing prefix."""
    prefix = cut
    while prefix and prefix not in layers:
        prefix = prefix.rpartition(".")[0]
    depth = prefix.count(".") + 1 if prefix else 0
    near = [
        name
        for name in layers
        if name.count(".") == depth and name.startswith(prefix + "." if prefix else "")
    ]
    return near[:20] or [prefix]


def cross_channels_first(front: fx.GraphModule, tail: fx.GraphModule) -> None:
    """Pass [B, C, H, W] across the cut instead of [B, H, W, C]. Each part keeps its own layout."""
    _end_with(front, "permute", 0, 3, 1, 2)
    begin_with(tail, "permute", 0, 2, 3, 1)


def cross_as_places(front: fx.GraphModule, tail: fx.GraphModule) -> None:
    """Pass [B, D, T, 1] across the cut instead of tokens, [B, T, D]; each part keeps its layout."""
    _end_with(front, "permute", 0, 2, 1)
    _end_with(front, "unsqueeze", 3)
    begin_with(tail, "permute", 0, 2, 1)
    begin_with(tail, "squeeze", 3)


def _end_with(front: fx.GraphModule, method: str, *arguments: int) -> None:
    """Make a front return ``output.method(*arguments)``."""
    # The output node. Graphs of torch 2.4 have no method for it.
    *_, output = front.graph.nodes
    with front.graph.inserting_before(output):
        output.args = (front.graph.call_method(method, (output.args[0], *arguments)),)
    front.recompile()


def begin_with(tail: fx.GraphModule, method: str, *arguments: int) -> None:
    """Make a tail use ``features.method(*arguments)`` as its features."""
    features = next(iter(tail.graph.nodes))
    with tail.graph.inserting_after(features):
        node = tail.graph.call_method(method, (features, *arguments))
    features.replace_all_uses_with(node, delete_user_cb=lambda user: user is not node)
    tail.recompile()
