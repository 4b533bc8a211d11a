"""Find the value that crosses a cut: one depends on the images, others must be constant.

Some networks compute the size of their grid, or position embeddings, at the start and use them in
every block. For images of one size these values are constants, so they may also cross the cut.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from crumb.errors import InputError, setting
from crumb.nets.probe import run
from crumb.nets.subgraph import subgraph


def only_crossing(model: nn.Module, graph: fx.Graph, start: int, size: int | None) -> fx.Node:
    """Find the one value that crosses a cut, and write constants into the graph.

    Args:
        model: the traced model. It gets a buffer for each constant tensor.
        graph: graph of the model's forward; changed in place.
        start: position of the first node after the cut.
        size: side of the images in pixels. With None, constants are refused too.

    Raises:
        InputError: more than one value crosses.
    """
    nodes = list(graph.nodes)
    before, after = nodes[:start], set(nodes[start:])
    needed = {value for node in after for value in node.all_input_nodes}
    crossing = [node for node in before if node in needed and node.op != "get_attr"]
    if len(crossing) > 1 and size is not None:
        constants = _constants(model, crossing, size)
        if len(constants) == len(crossing) - 1:
            for node, value in constants.items():
                _write(model, graph, nodes[start], node, value, after)
            crossing = [node for node in crossing if node not in constants]
    if len(crossing) != 1:
        problem = f"{len(crossing)} values cross the cut (as in a skip connection)"
        remedy = "choose the start of a whole stage"
        raise InputError(setting("cut", nodes[start].target), problem, remedy)
    return crossing[0]


def _constants(model: nn.Module, nodes: list[fx.Node], size: int) -> dict[fx.Node, Any]:
    """Values of the nodes that do not depend on the images or on the batch size."""
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.rand(count, 3, size, size, generator=generator) for count in (1, 2)]
    found = {}
    for node in nodes:
        part = subgraph(model, end=node, start=None, name="Crossing")
        try:
            one, other = (run(part, picture, str(node)) for picture in pictures)
        except InputError:
            # The network does not accept this size. The error is reported when the network is first
            # run.
            continue
        if _same(one, other):
            found[node] = one
    return found


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    plain = (int, float, list, tuple)
    return isinstance(one, plain) and isinstance(other, plain) and one == other


def _write(
    model: nn.Module,
    graph: fx.Graph,
    first: fx.Node,
    node: fx.Node,
    value: Any,
    after: set[fx.Node],
) -> None:
    """Replace an earlier node by a constant in all nodes from ``first`` on."""
    with graph.inserting_before(first):
        if isinstance(value, Tensor):
            name = f"constant_{node.name}"
            model.register_buffer(name, value)
            new = graph.get_attr(name)
        else:
            new = graph.call_function(_given, (value,))
    node.replace_all_uses_with(new, delete_user_cb=lambda user: user in after)


def _given(value: Any) -> Any:
    return value
