"""A part of a network's call graph as a separate module."""

from __future__ import annotations

from torch import fx, nn


def subgraph(model: nn.Module, end: fx.Node, start: fx.Node | None, name: str) -> fx.GraphModule:
    """The module that computes ``end`` from ``start`` (None: from the network's input).

    It shares its layers with ``model``.
    """
    graph, copies = fx.Graph(), {}
    if start is not None:
        copies[start] = graph.placeholder("features")

    def copy(node: fx.Node) -> fx.Node:
        if node not in copies:
            for value in node.all_input_nodes:
                copy(value)
            copies[node] = graph.node_copy(node, copies.__getitem__)
        return copies[node]

    if end.op == "output":
        copy(end)
    else:
        graph.output(copy(end))
    return fx.GraphModule(model, graph, name)
