"""Cut any feed-forward classifier at a named layer into a frozen front and a trainable tail.

CRUMB (Talbot et al. 2025, section III-A) stores feature maps from the middle of a network, so it
needs the network as two functions: ``front`` up to the cut, ``tail`` from the cut to the logits.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from crumb.errors import InputError, setting
from crumb.nets.config import Backbone, NetworkConfig
from crumb.nets.dropout import SeededDropout, replace_dropout, same_draws
from crumb.nets.graph import begin_with, cross_as_places, cross_channels_first, split
from crumb.nets.heads import Head, averaged, fresh_head
from crumb.nets.norms import fold_norms, unfold_norms
from crumb.nets.probe import CHANNELS_LAST, channel_axis, find_head, run
from crumb.nets.strided import replace_strided
from crumb.nets.tokens import grid_of_tokens

if TYPE_CHECKING:
    from crumb.nets.engines import Engine
    from crumb.nets.fronts import FrontEngine


class _Reached(Exception):
    """Carries a value out of the tail, so that later layers are not computed."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value


class _Beside:
    """Hook that adds an adapter of a layer's input; an object, so deepcopy copies the adapter."""

    def __init__(self, adapter: nn.Module) -> None:
        self.adapter = adapter

    def __call__(self, _: nn.Module, values: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + self.adapter(*values)


class SplitNetwork(nn.Module):
    """A classifier cut in two, with a fresh head.

    The front is frozen and always in eval mode. Batch norm in the tail keeps its pretrained
    statistics during training. Class-incremental batches hold few classes, and running statistics
    that follow them would make stored exemplars drift (they drift in the original code).

    Weights and features are in channels-last memory, which is faster and stores the slices of the
    codebook contiguously. Features always cross the cut as [B, C, H, W]. Networks that compute [B,
    H, W, C] get their own layout back at the start of the tail. Tokens, [B, T, D], cross the cut as
    [B, D, T, 1]: each token is one position.

    The constructor runs the network on an empty image to find its layout and its head.

    Args:
        model: the whole classifier.
        backbone: where to cut it, how to preprocess images, the kernel of the head.
        config: configuration of the network. Its dropout replaces the dropout of the tail unless it
            is None. Its engine is ignored: the network starts with torch.

    Attributes:
        feature_shape: shape of a feature map: (channels, height, width).
        prefix_tokens: number of tokens for the whole image (class token, registers) before the
            patch tokens; 0 for feature maps.
        grid: (rows, columns) of the positions, without prefix tokens; None if the order of the
            tokens is unknown.
        bf16: whether convolutions and matrix products are computed in bfloat16 (weights, features
            and logits stay float32).
        engine: the engine that computes the front instead of torch, on a CPU in float32; see
            :func:`crumb.nets.fronts.use_engine`.
        weights_sha256: digest of weights that timm downloaded (:func:`crumb.nets.weights.sha256`).
        maps: number of feature maps passed through the tail so far. A feature map that passes
            through two branches counts twice.
        branches: number of branches of the tail: 1, or 2 after
            :func:`crumb.nets.aggregation.aggregate`.
        adapters: modules added to the tail or before it, by name.

    Raises:
        InputError: there is no such layer; more than one tensor crosses the cut, or the tensor is
            not a feature map; the logits do not come from one layer alone; front and tail share
            weights; training draws random numbers that cannot be seeded; or a dropout probability
            is given for a tail without dropout.
    """

    def __init__(self, model: nn.Module, backbone: Backbone, config: NetworkConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = replace(config, engine="torch")
        self.preprocessing = backbone.preprocessing
        whole, size = config.trainable == "all", backbone.preprocessing.size
        self.front, self.tail = split(model.eval(), backbone.cut, whole, size)
        if set(self.front.parameters()) & set(self.tail.parameters()):
            problem = "divides the network into parts that share weights, so they cannot be frozen"
            raise InputError(setting("cut", backbone.cut), problem, "choose another layer")
        self.front.eval().requires_grad_(False)
        replace_dropout(self.tail, config.dropout)
        replace_strided(self.tail)
        self.adapters = nn.ModuleDict()
        self._before_tail: tuple[str, ...] = ()
        self.bf16 = False
        self.engine: FrontEngine | None = None
        self.weights_sha256: str | None = None
        self.maps, self.branches = 0, 1
        self._apply(_channels_last)
        self.prefix_tokens = 0
        self.grid: tuple[int, int] | None = None
        self.feature_shape = self._settle_layout(model)
        self._settle_head()
        fold_norms(self.tail, self.head_name)

    def _settle_layout(self, model: nn.Module) -> tuple[int, int, int]:
        """Make feature maps cross the cut as [B, C, H, W], whatever layout the network uses."""
        size, subject = self.preprocessing.size, setting("cut", self.backbone.cut)
        pixels = torch.zeros(2, 3, size, size, dtype=torch.uint8)
        maps = run(self.front, self.preprocessing(pixels), subject)
        inside = "choose a layer before the maps or tokens are pooled"
        if not isinstance(maps, Tensor):
            problem = f"the value that crosses it is a {type(maps).__name__}, not a tensor"
            raise InputError(subject, problem, inside)
        shape = tuple(maps.shape)
        if len(shape) == 3:
            cross_as_places(self.front, self.tail)
            self.prefix_tokens, self.grid = grid_of_tokens(model, shape[1])
            return (shape[2], shape[1], 1)
        if len(shape) != 4 or shape[0] != len(pixels):
            problem = f"the tensor that crosses it has shape {shape}, not [B, C, H, W]"
            raise InputError(subject, problem, inside)
        stated = getattr(model, "output_fmt", None)
        if channel_axis(self.front, shape, size, subject, stated) == CHANNELS_LAST:
            cross_channels_first(self.front, self.tail)
            shape = (shape[0], shape[3], shape[1], shape[2])
        self.grid = (shape[2], shape[3])
        return (shape[1], shape[2], shape[3])

    def _settle_head(self) -> None:
        """Find the head; check that it alone gives the logits and features are not changed."""
        subject = setting("backbone", self.config.backbone)
        maps = torch.zeros(2, *self.feature_shape).contiguous(memory_format=torch.channels_last)
        version, drawn = maps._version, torch.get_rng_state()
        self.use_generator(torch.Generator())
        self.head_name, trained = find_head(self.train().tail, maps, subject)
        if not torch.equal(drawn, torch.get_rng_state()):
            torch.set_rng_state(drawn)
            problem = "draws random numbers in training that the seed of a run does not decide"
            raise InputError(
                subject, problem, f"choose another network, or a later {setting('cut')}"
            )
        # If only this layer gets another number of classes, the logits must have that number.
        head, classes = self.eval().head, 3
        if head.weight.shape[0] == classes:
            classes += 1
        self.new_head(classes, torch.Generator())
        try:
            tested = run(self.tail, maps, subject)
        except InputError:
            tested = None
        self._put_head(head)
        if _shape(trained) != (2, self.outputs) or _shape(tested) != (2, classes):
            problem = f"its logits do not come from its last layer, {self.head_name}, alone"
            raise InputError(subject, problem, "choose a network with one classifier layer")
        if maps._version != version:
            begin_with(self.tail, "clone")
        self.use_generator(None)

    @property
    def head(self) -> Head:
        """The last layer, whose outputs are the classes."""
        module = self.tail.get_submodule(self.head_name)
        assert isinstance(module, (nn.Linear, nn.Conv2d))
        return module

    @property
    def outputs(self) -> int:
        """Number of outputs of the head."""
        return self.head.weight.shape[0]

    @property
    def penultimate_size(self) -> int:
        """Number of inputs of the head per image: D of :meth:`penultimate`."""
        return self.head.weight.shape[1]

    def new_head(self, outputs: int, generator: torch.Generator, keep: int = 0) -> None:
        """Replace the head by a new one with the default initialisation of its layer type.

        Args:
            outputs: number of classes.
            generator: generator of the initial values (CPU).
            keep: number of rows of the present head to copy.
        """
        old, device = self.head, next(self.tail.parameters()).device
        kernel = self.backbone.head_kernel
        head = fresh_head(old, outputs, kernel, generator).to(device)
        if keep:
            assert head.bias is not None
            assert old.bias is not None
            with torch.no_grad():
                head.weight[:keep] = old.weight[:keep]
                head.bias[:keep] = old.bias[:keep]
        self._put_head(head)

    def _put_head(self, layer: nn.Module) -> None:
        parent, _, name = self.head_name.rpartition(".")
        setattr(self.tail.get_submodule(parent), name, layer.train(self.training))

    @property
    def drops(self) -> bool:
        """Whether the tail has a dropout layer with a probability above zero."""
        layers = [m for m in self.tail.modules() if isinstance(m, SeededDropout)]
        return any(layer.probability > 0 and not layer.whole for layer in layers)

    def drop_before_head(self, probability: float) -> None:
        """Put a dropout layer before the head, for networks without dropout."""
        self._put_head(nn.Sequential(SeededDropout(probability), self.head))
        self.head_name += ".1"

    # Modules that a method adds.

    def add_adapter(self, name: str, adapter: nn.Module, layer: str | None = None) -> None:
        """Add a trained module to the tail. Names of the network's parameters do not change.

        Args:
            name: name of the adapter, without dots.
            adapter: the module, on the network's device.
            layer: dotted name of a layer of the tail. The adapter gets the input of this layer, and
                its output is added to the output of the layer. With None, the feature maps pass
                through the adapter before the tail, float [B, C, H, W] to the same shape.

        Raises:
            ValueError: the layer is the head, which is replaced when classes come.
        """
        if layer == self.head_name:
            raise ValueError(f"{layer} is the head, which is replaced when classes come")
        if layer is not None:
            # Code of the network may call the layer by its name, so only a hook works.
            unfold_norms(self.tail, layer)
            self.tail.get_submodule(layer).register_forward_hook(_Beside(adapter))
        else:
            self._before_tail = (*self._before_tail, name)
        self.adapters[name] = adapter.train(self.training)

    @property
    def adapter_bytes(self) -> int:
        """Bytes of all adapters, including their buffers."""
        return sum(value.nbytes for value in self.adapters.state_dict().values())

    def trained(self) -> dict[str, nn.Parameter]:
        """Parameters of the tail and of the adapters, by name."""
        parts = {"tail": self.tail, "adapters": self.adapters}
        return {f"{part}.{n}": p for part, m in parts.items() for n, p in m.named_parameters()}

    def _adapted(self, features: Tensor) -> Tensor:
        """Pass features through the adapters before the tail."""
        for name in self._before_tail:
            features = self.adapters[name](features)
        return features

    def use_generator(self, generator: torch.Generator | None) -> None:
        """Draw all dropout masks of the tail from ``generator`` (on the device of the tail)."""
        for module in self.tail.modules():
            if isinstance(module, SeededDropout):
                module.generator = generator

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Compute the front: uint8 [B, 3, S, S] to float32 [B, C, H, W] in channels-last memory."""
        values = self.preprocessing(images)
        if (engine := self.front_engine()) is not None:
            features = engine(values)
        else:
            with self._precision():
                features = self.front(values)
        return features.float().contiguous(memory_format=torch.channels_last)

    def front_engine(self) -> Engine | None:
        """The engine that computes the front; None is torch.

        Raises:
            InputError: the requested engine cannot be used.
        """
        return None if self.engine is None else self.engine.of(self)

    def forward(self, features: Tensor, linear: bool = False) -> Tensor:
        """Compute the tail: float32 [B, C, H, W] to logits, float32 [B, outputs].

        Args:
            features: feature maps.
            linear: return the output of the head itself, averaged over positions. It differs from
                the logits if a nonlinear layer follows the head: SqueezeNet's logits are never
                negative.
        """
        if linear:
            return self._at_head(features, entering=False)
        self.maps += self.branches * len(features)
        with self._precision():
            return self.tail(self._adapted(features)).float()

    def penultimate(self, features: Tensor) -> Tensor:
        """Input of the head, averaged over positions: float32 [B, C, H, W] to float32 [B, D].

        The head and later layers are not computed. D is ``penultimate_size``.
        """
        return self._at_head(features, entering=True)

    def _at_head(self, features: Tensor, entering: bool) -> Tensor:
        """Input or output of the head, averaged over positions."""
        self.maps += self.branches * len(features)
        head = self.head

        def entered(_: nn.Module, values: tuple[Tensor, ...]) -> None:
            raise _Reached(averaged(head, values[0]))

        def left(_: nn.Module, __: tuple[Tensor, ...], values: Tensor) -> None:
            raise _Reached(averaged(head, values))

        # Code of the network may call the head by its name, so only a hook works.
        hook = (
            head.register_forward_pre_hook(entered)
            if entering
            else head.register_forward_hook(left)
        )
        try:
            with self._precision():
                # The uncompiled forward, because compiled code does not call the hook.
                self.tail.forward(self._adapted(features))
        except _Reached as reached:
            return reached.value.float()
        finally:
            hook.remove()
        raise AssertionError("the head was not computed")

    def _precision(self) -> AbstractContextManager[object]:
        kind = next(self.tail.parameters()).device.type
        return torch.autocast(kind, torch.bfloat16) if self.bf16 else nullcontext()

    def compile_tail(self) -> None:
        """Compile the tail in place (``torch.compile``).

        Raises:
            InputError: the tail cannot be compiled on this machine.
        """
        maps = torch.zeros(2, *self.feature_shape, device=next(self.tail.parameters()).device)
        try:
            self.tail.compile()
            # Draws of the learner must not depend on whether the tail is compiled.
            with same_draws(self.tail):
                self(maps.contiguous(memory_format=torch.channels_last))
        # The exception depends on what is missing: a C++ compiler, Triton, an operation.
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(
                setting("compile"), f"does not work here ({reason})", "leave it out"
            ) from error

    def train(self, mode: bool = True) -> SplitNetwork:
        """Set the mode of the tail. The front and every batch norm stay in eval mode."""
        self.training = mode
        # Skip the front: walking through its modules takes longer than the tail of one image.
        self.tail.train(mode)
        self.adapters.train(mode)
        for module in self.tail.modules():
            # Any norm with running statistics, whatever its class.
            if hasattr(module, "running_var"):
                module.eval()
        return self


def _channels_last(values: Tensor) -> Tensor:
    # Module.to would refuse networks with five-dimensional weights.
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values


def _shape(value: object) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None
