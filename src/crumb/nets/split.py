"""Cutting any feed-forward classifier at a named layer: a frozen front, a trainable tail.

CRUMB (Talbot et al. 2025, section III-A) stores feature maps from the middle of a network, so the
network is needed as two functions: ``front`` up to the cut, ``tail`` from the cut to the logits.
The cut is found on the network's own call graph, so no model needs code of its own here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError

from crumb.errors import InputError, setting
from crumb.nets.config import Backbone, NetworkConfig
from crumb.nets.dropout import SeededDropout, replace_dropout


class SplitNetwork(nn.Module):
    """A classifier cut in two, with a fresh head.

    The front is frozen and always in eval mode. Batch norm in the tail uses the statistics it was
    pretrained with, also in training: class-incremental batches hold few classes, and running
    statistics that follow them make stored exemplars drift (the original lets them drift).

    Weights and features are in channels-last memory, which is faster and in which the slices of
    the codebook lie side by side.

    Args:
        model: the whole classifier.
        backbone: where to cut it, how to preprocess images, the kernel of the head.
        config: as asked for; its dropout replaces that of the tail unless None.

    Attributes:
        feature_shape: (channels, height, width) of what crosses the cut.
        bf16: whether convolutions and products are computed in bfloat16 (weights, features and
            logits stay float32).
        maps: how many feature maps have gone through the tail, whatever its weights.

    Raises:
        InputError: no such layer, more than one tensor crosses the cut, or a dropout probability
            for a tail without dropout.
    """

    def __init__(self, model: nn.Module, backbone: Backbone, config: NetworkConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = config
        self.preprocessing = backbone.preprocessing
        self.front, self.tail = split(model.eval(), backbone.cut, config.trainable == "all")
        self.front.requires_grad_(False)
        self.head_name, _ = find_head(self.tail)
        replace_dropout(self.tail, config.dropout)
        self.bf16 = False
        self.maps = 0
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.feature_shape = self._measure_feature_shape(backbone.cut)

    def _measure_feature_shape(self, cut: str) -> tuple[int, int, int]:
        size = self.preprocessing.size
        with torch.no_grad():
            shape = tuple(self.front(torch.zeros(1, 3, size, size)).shape)
        if len(shape) != 4:
            raise InputError(
                setting("cut", cut),
                f"what crosses it has shape {shape}, not (batch, channels, height, width)",
                "choose a layer in the convolutional part of the network",
            )
        return (shape[1], shape[2], shape[3])

    @property
    def head(self) -> nn.Linear | nn.Conv2d:
        """The last layer, whose outputs are the classes."""
        module = self.tail.get_submodule(self.head_name)
        assert isinstance(module, (nn.Linear, nn.Conv2d))
        return module

    @property
    def outputs(self) -> int:
        """Number of classes that the head has room for."""
        return self.head.weight.shape[0]

    def new_head(self, outputs: int, generator: torch.Generator, keep: int = 0) -> None:
        """Replace the head by a fresh one with the default initialisation of its layer type.

        Args:
            outputs: number of classes.
            generator: of the initial values (CPU).
            keep: this many rows of the present head are carried over.
        """
        old, device = self.head, next(self.tail.parameters()).device
        kernel = self.backbone.head_kernel
        head = _fresh_head(old, outputs, kernel, generator).to(device)
        if keep:
            assert head.bias is not None
            assert old.bias is not None
            with torch.no_grad():
                head.weight[:keep] = old.weight[:keep]
                head.bias[:keep] = old.bias[:keep]
        parent, _, name = self.head_name.rpartition(".")
        setattr(self.tail.get_submodule(parent), name, head.train(self.training))

    @property
    def drops(self) -> bool:
        """Whether the tail has a dropout that drops anything."""
        layers = [m for m in self.tail.modules() if isinstance(m, SeededDropout)]
        return any(layer.probability > 0 and not layer.whole for layer in layers)

    def drop_before_head(self, probability: float) -> None:
        """Put a dropout before the last layer, in the tail of a network that has none."""
        parent, _, name = self.head_name.rpartition(".")
        layers = nn.Sequential(SeededDropout(probability), self.head)
        setattr(self.tail.get_submodule(parent), name, layers.train(self.training))
        self.head_name += ".1"

    def use_generator(self, generator: torch.Generator) -> None:
        """Draw all dropout masks of the tail from ``generator`` (on the device of the tail)."""
        for module in self.tail.modules():
            if isinstance(module, SeededDropout):
                module.generator = generator

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """The frozen front: uint8 [B, 3, S, S] to float32 [B, C, H, W] in channels-last memory."""
        with self._precision():
            features = self.front(self.preprocessing(images))
        return features.float().contiguous(memory_format=torch.channels_last)

    def forward(self, features: Tensor, linear: bool = False) -> Tensor:
        """The tail: float32 [B, C, H, W] to logits, float32 [B, outputs].

        Args:
            features: what crosses the cut.
            linear: give what the head itself puts out, averaged over places. It differs from the
                logits where a layer follows that is not linear: SqueezeNet's are never negative.
        """
        if linear:
            return self._at_head(features)[1]
        self.maps += len(features)
        with self._precision():
            return self.tail(features).float()

    def penultimate(self, features: Tensor) -> Tensor:
        """What enters the head, averaged over places: float32 [B, C, H, W] to float32 [B, D]."""
        return self._at_head(features)[0]

    def _at_head(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What enters and what leaves the head, averaged over places."""
        self.maps += len(features)
        passed: list[Tensor] = []

        def note(head: nn.Module, entered: tuple[Tensor, ...], left: Tensor) -> None:
            # At once: a layer that follows may change what left the head in place.
            for values in (entered[0], left):
                pooled = values.mean((2, 3)) if isinstance(head, nn.Conv2d) else values.clone()
                passed.append(pooled.float())

        hook = self.head.register_forward_hook(note)
        try:
            with self._precision():
                # As it was before it was compiled: compiled code does not call the hook.
                self.tail.forward(features)
        finally:
            hook.remove()
        entered, left = passed
        return entered, left

    def _precision(self) -> AbstractContextManager[object]:
        kind = next(self.tail.parameters()).device.type
        return torch.autocast(kind, torch.bfloat16) if self.bf16 else nullcontext()

    def compile_tail(self) -> None:
        """Compile the tail in place (``torch.compile``); the front computes each image once.

        Raises:
            InputError: it cannot be compiled on this machine.
        """
        maps = torch.zeros(2, *self.feature_shape, device=next(self.tail.parameters()).device)
        generators = {m.generator for m in self.tail.modules() if isinstance(m, SeededDropout)}
        states = [(one, one.get_state()) for one in generators if one is not None]
        try:
            self.tail.compile()
            self(maps.contiguous(memory_format=torch.channels_last))
            # What the learner draws is not to depend on whether it is compiled.
            for generator, before in states:
                generator.set_state(before)
        # What the compiler raises differs with what it lacks: a C++ compiler, Triton, an operation.
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(
                setting("compile"), f"does not work here ({reason})", "leave it out"
            ) from error

    def train(self, mode: bool = True) -> SplitNetwork:
        """Set the tail's mode; the front and every batch norm stay in eval mode."""
        super().train(mode)
        self.front.eval()
        for module in self.tail.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


class _CutTracer(fx.Tracer):
    """Looks only into the modules that contain the cut, so nearly any forward can be traced."""

    def __init__(self, cut: str) -> None:
        super().__init__()
        self._cut = cut

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self._cut.startswith(module_qualified_name + ".")


def split(
    model: nn.Module, cut: str, at_input: bool = False
) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Cut ``model`` before the layer ``cut``.

    Args:
        model: the whole classifier.
        cut: dotted name of a layer.
        at_input: cut before the first layer instead, so that the front computes nothing.

    Returns:
        front and tail; their state keeps the model's names. Together they compute the model.

    Raises:
        InputError: no such layer, it is not called, or more than one tensor crosses the cut.
    """
    flag = setting("cut", cut)
    layers = [name for name, _ in model.named_modules() if name]
    if cut not in layers:
        raise InputError(flag, "no such layer", f"choose one of {', '.join(_near(cut, layers))}")
    try:
        graph = _CutTracer(cut).trace(model)
    except (TraceError, TypeError, RuntimeError, AttributeError, KeyError) as error:
        raise InputError(
            flag, f"the network cannot be traced there ({error})", "choose an outer layer"
        ) from error
    nodes = list(graph.nodes)
    start = next((i for i, node in enumerate(nodes) if node.target == cut), None)
    if start is None:
        raise InputError(flag, "the network never calls it on its own", "choose its parent layer")
    before = {node for node in nodes[:start] if node.op != "get_attr"}
    crossing = {
        value for node in nodes[start:] for value in node.all_input_nodes if value in before
    }
    if len(crossing) != 1:
        raise InputError(
            flag,
            f"{len(crossing)} tensors cross the cut (a skip connection)",
            "choose the start of a whole stage",
        )
    feature = nodes[0] if at_input else next(iter(crossing))
    # The features belong to the caller: an in-place layer would change them under its hands.
    leave_unchanged(feature, model)
    front = subgraph(model, end=feature, start=None, name="Front")
    return front, subgraph(model, end=nodes[-1], start=feature, name="Tail")


def leave_unchanged(value: fx.Node, model: nn.Module) -> None:
    """Let no layer of ``model`` that takes this value of its graph change it in place."""
    for node in value.users:
        layer = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        if layer is not None and "inplace" in vars(layer):
            vars(layer)["inplace"] = False


def _near(cut: str, layers: Sequence[str]) -> list[str]:
    """Layers beside the one asked for: as deep as its longest prefix that exists, plus one."""
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


def subgraph(model: nn.Module, end: fx.Node, start: fx.Node | None, name: str) -> fx.GraphModule:
    """What computes ``end`` from ``start`` (None: from the network's own input).

    Its layers are those of ``model``, not copies.
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


def find_head(tail: fx.GraphModule) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The last linear or convolutional layer of the tail, by name.

    Raises:
        InputError: the tail has none, so it cannot be given classes.
    """
    for node in reversed(list(tail.graph.nodes)):
        if node.op != "call_module":
            continue
        called = tail.get_submodule(str(node.target))
        layers = [
            (f"{node.target}.{name}" if name else str(node.target), module)
            for name, module in called.named_modules()
            if isinstance(module, (nn.Linear, nn.Conv2d))
        ]
        if layers:
            return layers[-1]
    raise InputError(
        setting("backbone"),
        "the tail has no classifier layer",
        f"choose an earlier {setting('cut')}",
    )


def _fresh_head(
    template: nn.Linear | nn.Conv2d,
    outputs: int,
    kernel: int,
    generator: torch.Generator,
) -> nn.Linear | nn.Conv2d:
    head: nn.Linear | nn.Conv2d
    # The constructors draw from the global generator; on the meta device they draw nothing.
    with torch.device("meta"):
        if isinstance(template, nn.Linear):
            head = nn.Linear(template.in_features, outputs)
        else:
            head = nn.Conv2d(template.in_channels, outputs, kernel, padding=kernel // 2)
    head = head.to_empty(device="cpu")
    assert head.bias is not None
    bound = head.weight[0].numel() ** -0.5
    with torch.no_grad():
        head.weight.uniform_(-bound, bound, generator=generator)
        head.bias.uniform_(-bound, bound, generator=generator)
    return head.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
