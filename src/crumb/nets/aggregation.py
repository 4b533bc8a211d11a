"""A second branch beside each level of a tail, its filters frozen but for their scale.

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
"""Under which name the tail holds them."""
ALPHA = 0.5
"""What the weight of a plastic branch is at first."""


class FilterScale(nn.Module):
    """One factor for each filter of a layer (neuron-level scaling weights), 1 at first."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(filters))

    def forward(self, weight: Tensor) -> Tensor:
        """The filters, [filters, ...], each times its factor."""
        return weight * self.scale.view(-1, *[1] * (weight.ndim - 1))


class Aggregation(nn.Module):
    """alpha * plastic + (1 - alpha) * stable, at the end of one level.

    Args:
        level: the plastic branch, whose layers are those of the tail.
        generator: of its dropout masks; the copy draws from the same one.

    Attributes:
        stable: a copy of the level; its weights are constants, its scales are trained.
        alpha: float [1], 0.5 at first. Not trained with the rest.
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
        """What leaves the level, from what entered it and what its plastic branch made of it."""
        return self.alpha * plastic + (1 - self.alpha) * self.stable(entered)

    @property
    def nbytes(self) -> int:
        """Bytes of everything in it."""
        return sum(value.nbytes for value in (*self.parameters(), *self.buffers()))


def levels(network: SplitNetwork) -> list[tuple[fx.Node, fx.Node]]:
    """Where the levels of a tail begin and end: the layers of one resolution, before the head.

    A residual level is where all maps have the same height and width. A level can begin and end
    only where a single tensor passes on; layers without weights after the last one with weights
    belong to none.

    Returns:
        of each level the value that enters and the value that leaves it, in the tail's graph.

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
    """The nodes whose layers have weights, and the place of the one that holds the head."""
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
    """Whether what follows a place in the graph needs no earlier value than its own."""
    before, after = set(nodes[:place]), nodes[place + 1 :]
    return not any(value in before for node in after for value in node.all_input_nodes)


def _sizes(network: SplitNetwork) -> dict[fx.Node, torch.Size]:
    """Height and width of every map in the tail."""
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
    """Give every level of the tail a stable branch: a copy of what it is now.

    The network computes what it did before, until a branch or an alpha changes.

    Args:
        network: whose tail is replaced by one that has the same layers and their copies.
        generator: of the tail's dropout masks.

    Returns:
        what was added, from the first level to the last.

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
        # The next level begins with what both branches of this one make.
        if number + 1 < len(found):
            found[number + 1] = (node, found[number + 1][1])
    # A new module, because what was compiled knows the old one.
    network.tail = fx.GraphModule(tail, tail.graph, "Tail").train(network.training)
    network.train(network.training)
    network.branches = 2
    if was_compiled:
        network.compile_tail()
    return [module for module in network.tail.modules() if isinstance(module, Aggregation)]
