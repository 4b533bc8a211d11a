"""Fold batch norm with fixed statistics into the convolution before it.

Batch norm in a tail has fixed statistics, so it multiplies each channel by a factor and adds a
shift. The convolution can do this at no cost: the factor multiplies its weights, and the shift
becomes its bias. Both are computed in every call from the parameters of convolution and norm, so
all parameters are trained as before, and results differ only by rounding. A step no longer reads
and writes whole feature maps for the norm, neither forward nor backward.
"""

from __future__ import annotations

from collections import Counter

from torch import Tensor, fx, nn


class NormedConv(nn.Conv2d):
    """A convolution that also computes the batch norm after it; see :func:`fold_norms`.

    Attributes:
        folded: the norm and its class. The norm is not a child of this module, so names of
            parameters do not change.
    """

    folded: tuple[nn.BatchNorm2d, type[nn.BatchNorm2d]]

    def forward(self, input: Tensor) -> Tensor:
        """Convolution and norm of float [B, C, H, W]."""
        norm, _ = self.folded
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        factor = (variance + norm.eps).rsqrt()
        if norm.affine:
            factor = norm.weight * factor
        shift = (-mean if self.bias is None else self.bias - mean) * factor
        if norm.affine:
            shift = shift + norm.bias
        return self._conv_forward(input, self.weight * factor.view(-1, 1, 1, 1), shift)


class PassingNorm(nn.BatchNorm2d):
    """A batch norm that a convolution computes. Only the activation of timm's norms is left."""

    def forward(self, input: Tensor) -> Tensor:
        """The activation of float [B, C, H, W], or the identity if there is none."""
        for name in ("drop", "act"):
            if (layer := self._modules.get(name)) is not None:
                input = layer(input)
        return input


class _NormTracer(fx.Tracer):
    """Traces only into modules that contain a norm, so that nearly every forward can be traced."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.BatchNorm2d) or not any(
            isinstance(module, nn.BatchNorm2d) for module in m.modules()
        )


def fold_norms(tail: fx.GraphModule, head: str) -> None:
    """Fold each batch norm into the convolution before it, if nothing else uses its output.

    Names of modules, parameters and buffers do not change. A tail that cannot be traced is left
    unchanged.

    Args:
        tail: tail of a network, changed in place. Its batch norms are always in eval mode.
        head: dotted name of the layer that is replaced when classes come.
    """
    mode = tail.training
    # The graph may depend on the mode.
    found = [_pairs(tail.train(training)) for training in (True, False)]
    tail.train(mode)
    for convolution, norm in found[0] & found[1]:
        if convolution != head:
            _fold(tail.get_submodule(convolution), tail.get_submodule(norm))


def unfold_norms(tail: nn.Module, layer: str | None = None) -> None:
    """Undo :func:`fold_norms`.

    Args:
        tail: tail of a network, changed in place.
        layer: undo it only where this layer contains the norm or its convolution, but not both.
    """
    inside = None if layer is None else set(tail.get_submodule(layer).modules())
    for module in tail.modules():
        if isinstance(module, NormedConv):
            norm, kind = module.folded
            if inside is None or (module in inside) != (norm in inside):
                del module.folded
                _become(module, nn.Conv2d)
                _become(norm, kind)


def _fold(convolution: nn.Module, norm: nn.Module) -> None:
    vars(convolution)["folded"] = (norm, type(norm))
    _become(convolution, NormedConv)
    _become(norm, PassingNorm)


def _become(module: nn.Module, kind: type[nn.Module]) -> None:
    # Change the class as torch's parametrizations do: a new module would lose the hooks.
    module.__class__ = kind


def _pairs(tail: fx.GraphModule) -> set[tuple[str, str]]:
    """Names of each convolution and the norm that directly follows it, if both are called once."""
    from timm.layers.norm_act import BatchNormAct2d

    try:
        nodes = _NormTracer().trace(tail).nodes
    # Foreign code may raise anything.
    except Exception:
        return set()
    called = [node for node in nodes if node.op == "call_module"]
    times = Counter(tail.get_submodule(str(node.target)) for node in called)
    found = set()
    for node in called:
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        names = str(before.target), str(node.target)
        convolution, norm = map(tail.get_submodule, names)
        plain = type(convolution) is nn.Conv2d and type(norm) in (nn.BatchNorm2d, BatchNormAct2d)
        if plain and norm.running_var is not None and times[convolution] == times[norm] == 1:
            found.add(names)
    return found
