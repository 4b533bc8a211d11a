"""A second branch beside each level of a tail: frozen filters with trained scales.

Liu, Schiele, Sun, "Adaptive Aggregation Networks for Class-Incremental Learning", CVPR 2021.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from crumb.errors import InputError, setting
from crumb.nets.graph import leave_unchanged
from crumb.nets.split import SplitNetwork
from crumb.nets.subgraph import subgraph

AGGREGATIONS = "aggregations"
"""Name of the aggregations in the tail."""
ALPHA = 0.5
"""Initial weight of a plastic branch."""


class FilterScale(nn.Module):
    """One factor for each filter of a layer (neuron-level scaling weights), 1 at first."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(filters))

    def forward(self, weight: Tensor) -> Tensor:
        """Multiply each filter, [filters, ...], by its factor."""
        return weight * self.scale.view(-1, *[1] * (weight.ndim - 1))


class Aggregation(nn.Module):
    """alpha * plastic + (1 - alpha) * stable, at the end of one level.

    Args:
        level: the plastic branch. It shares its layers with the tail.
        generator: generator of the dropout masks, shared by both branches.

    Attributes:
        stable: a copy of the level. Its weights are constant, its scales are trained.
        alpha: weight of the plastic branch, float [1], initially 0.5. It is not trained with the
            other parameters.
    """

    def __init__(self, level: fx.GraphModule, generator: torch.Generator) -> None:
        super().__init__()
        self.stable = deepcopy(level, {id(generator): generator})
        for module in list(self.stable.modules()):
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, parameter.detach())
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                scale = FilterScale(len(module.weight)).to(module.weight.device)
                parametrize.register_parametrization(module, "weight", scale)
        some = next(level.parameters())
        self.alpha = nn.Parameter(some.new_full((1,), ALPHA), requires_grad=False)

    def forward(self, entered: Tensor, plastic: Tensor) -> Tensor:
        """Output of the level, from its input and the output of its plastic branch."""
        return self.alpha * plastic + (1 - self.alpha) * self.stable(entered)

    @property
    def nbytes(self) -> int:
        """Bytes of all parameters and buffers."""
        return sum(value.nbytes for value in (*self.parameters(), *self.buffers()))


def levels(network: SplitNetwork) -> list[tuple[fx.Node, fx.Node]]:
    """Find the levels of a tail: the groups of layers before the head that share a resolution.

    All feature maps of a residual level have the same height and width. A level can begin and end
    only where a single tensor is passed on. Layers without weights that follow the last layer with
    weights belong to no level.

    Returns:
        the input and the output node of each level in the tail's graph.

    Raises:
        InputError: there is no layer with weights before the head.
    """
    tail, nodes = network.tail, list(network.tail.graph.nodes)
    sizes, (weighted, head) = _sizes(network), _layers(network)
    found: list[tuple[fx.Node, fx.Node]] = []
    start, end, waiting = nodes[0], None, False
    for place, node in enumerate(nodes[1:head], 1):
        waiting |= node in weighted
        if not waiting or not _alone(nodes, place):
            continue
        if end is not None and sizes.get(node) != sizes.get(end):
            found.append((start, end))
            start = end
        end, waiting = node, False
    if end is None:
        cut = setting("cut", network.config.cut)
        problem = "leaves no layer with weights before the classifier, and two branches need one"
        raise InputError(cut, problem, "choose an earlier layer")
    assert isinstance(tail, fx.GraphModule)
    return [*found, (start, end)]


def _layers(network: SplitNetwork) -> tuple[set[fx.Node], int]:
    """The nodes whose layers have weights, and the position of the node that holds the head."""
    weighted, place = set(), 0
    for number, node in enumerate(network.tail.graph.nodes):
        if node.op != "call_module":
            continue
        name = str(node.target)
        if f"{network.head_name}.".startswith(f"{name}."):
            place = number
        if any(True for _ in network.tail.get_submodule(name).parameters()):
            weighted.add(node)
    return weighted, place


def _alone(nodes: list[fx.Node], place: int) -> bool:
    """Whether the nodes after a position use no value from before that position."""
    before, after = set(nodes[:place]), nodes[place + 1 :]
    return not any(value in before for node in after for value in node.all_input_nodes)


def _sizes(network: SplitNetwork) -> dict[fx.Node, torch.Size]:
    """Height and width of every feature map in the tail."""
    found: dict[fx.Node, torch.Size] = {}

    class Measuring(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value = super().run_node(n)
            if isinstance(value, Tensor):
                found[n] = value.shape[2:]
            return value

    training = network.training
    device = next(network.tail.parameters()).device
    network.eval()
    with torch.no_grad():
        Measuring(network.tail).run(torch.zeros(1, *network.feature_shape, device=device))
    network.train(training)
    return found


def aggregate(network: SplitNetwork, generator: torch.Generator) -> list[Aggregation]:
    """Give every level of the tail a stable branch: a copy of its present state.

    The network computes the same function until a branch or an alpha changes.

    Args:
        network: the network. Its tail is replaced by a tail with the same layers and their copies.
        generator: generator of the tail's dropout masks.

    Returns:
        the added modules, from the first level to the last.

    Raises:
        InputError: see :func:`levels`.
    """
    tail, was_compiled = network.tail, network.tail._compiled_call_impl is not None
    added = nn.ModuleList()
    found = levels(network)
    setattr(tail, AGGREGATIONS, added)
    for number, (start, end) in enumerate(found):
        leave_unchanged(start, tail)
        added.append(Aggregation(subgraph(tail, end, start, "Level"), generator))
        with tail.graph.inserting_after(end):
            node = tail.graph.call_module(f"{AGGREGATIONS}.{number}", (start, end))
        end.replace_all_uses_with(node, delete_user_cb=lambda user, own=node: user is not own)
        # The input of the next level is the output of both branches.
        if number + 1 < len(found):
            found[number + 1] = (node, found[number + 1][1])
    # A new module is needed, because the compiled code refers to the old one.
    network.tail = fx.GraphModule(tail, tail.graph, "Tail").train(network.training)
    network.train(network.training)
    network.branches = 2
    if was_compiled:
        network.compile_tail()
    return [module for module in network.tail.modules() if isinstance(module, Aggregation)]
