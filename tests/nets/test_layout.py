"""Where the channels are, which layer is the head, and networks in which that is hard to tell."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from split_networks import Small, images, small
from tests.rounding import assert_rounded, sums_of
from torch import Tensor, nn
from torch.nn.functional import dropout

from crumb.errors import InputError
from crumb.nets.dropout import SeededDropout
from crumb.nets.probe import CHANNELS_FIRST, CHANNELS_LAST, channel_axis
from crumb.nets.split import SplitNetwork


class Last(nn.Module):
    """8 x 8 places, [B, H, W, C] after the stem, and a head that sees each place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 2, 2)
        # Registered first, computed last.
        self.fc = nn.Linear(channels, 5)
        self.rectify = nn.ReLU(inplace=True)
        self.mix = nn.Linear(channels, channels)

    def forward(self, values: Tensor) -> Tensor:
        values = self.stem(values).permute(0, 2, 3, 1)
        return self.fc(self.mix(self.rectify(values))).mean((1, 2))


# Of 8 channels, all three axes have one size.
@pytest.mark.parametrize("channels", [6, 8])
def test_features_have_their_channels_first_and_the_tail_has_them_last(channels: int):
    model = Last(channels)
    network = small("rectify", model=model)
    pixels = network.preprocessing(images(2, 16))
    features = network.features(images(2, 16))
    assert network.feature_shape == (channels, 8, 8)
    assert network.head_name == "fc"
    assert features.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert_rounded(features, model.stem(pixels), *sums_of(model.stem))
        before = features.clone()
        assert_rounded(network(features), model(pixels), *sums_of(model))
    assert before.min() < 0
    assert torch.equal(features, before)


def test_penultimate_of_a_head_that_sees_each_place():
    network = small("rectify", model=Last(6))
    entered = network.penultimate(network.features(images(2, 16)))
    assert entered.shape == (2, 6)
    assert network.penultimate_size == 6
    # The head is linear, and so is the mean after it.
    expected = network(network.features(images(2, 16)))
    assert_rounded(network.head(entered), expected, *sums_of(network.head))


class Grid(nn.Module):
    """Maps of a shape of its own from images of any size, or of one size alone."""

    def __init__(self, shape: tuple[int, ...], grows: tuple[int, ...], only: int | None) -> None:
        super().__init__()
        self.shape, self.grows, self.only = shape, grows, only

    def forward(self, values: Tensor) -> Tensor:
        assert self.only in (None, values.shape[-1])
        factor = values.shape[-1] // 32
        sizes = [n * factor if i in self.grows else n for i, n in enumerate(self.shape, 1)]
        return values.new_zeros(len(values), *sizes)


@pytest.mark.parametrize(
    ("shape", "grows", "only", "stated", "expected"),
    [
        ((64, 7, 7), (), 32, None, CHANNELS_FIRST),
        ((7, 7, 64), (), 32, None, CHANNELS_LAST),
        # What is measured counts for more than what the network says of its stages.
        ((3, 32, 32), (), 32, "NHWC", CHANNELS_FIRST),
        ((8, 8, 8), (2, 3), None, None, CHANNELS_FIRST),
        ((8, 8, 8), (1, 2), None, "NCHW", CHANNELS_LAST),
        ((8, 8, 8), (), 32, "NHWC", CHANNELS_LAST),
        ((8, 8, 8), (), 32, "NCHW", CHANNELS_FIRST),
        ((4, 49, 96), (1,), 32, None, None),
        ((8, 8, 8), (), None, None, None),
        ((8, 8, 8), (1, 3), None, None, None),
    ],
)
def test_the_axis_of_the_channels(
    shape: tuple[int, ...],
    grows: tuple[int, ...],
    only: int | None,
    stated: str | None,
    expected: int | None,
):
    front = Grid(shape, grows, only)
    if expected is not None:
        assert channel_axis(front, (2, *shape), 32, "cut", stated) == expected
        return
    with pytest.raises(InputError, match=r"^here: which axis of .* holds the channels"):
        channel_axis(front, (2, *shape), 32, "here", stated)


class Odd(Small):
    """Small, but for one method of its own."""

    def __init__(self, last: Callable[[Odd, Tensor], object]) -> None:
        super().__init__()
        self.last = last
        self.second = nn.Linear(8, 5)
        self.place = nn.Identity()

    def forward(self, values: Tensor) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
        values = self.place(self.block(self.rectify(self.stem(values))))
        return self.last(self, values)


def _pooled(values: Tensor) -> Tensor:
    return values.mean((2, 3))


def _two_heads(model: Odd, values: Tensor) -> Tensor:
    return (model.fc(_pooled(values)) + model.second(_pooled(values))) / 2


def _joined_heads(model: Odd, values: Tensor) -> Tensor:
    return torch.cat([model.fc(_pooled(values)), model.second(_pooled(values))], 1)


def _fixed_width(model: Odd, values: Tensor) -> Tensor:
    return model.fc(_pooled(values)) + torch.ones(5)


def _several(model: Odd, values: Tensor) -> tuple[Tensor, Tensor]:
    return model.fc(_pooled(values)), values


def _twice(model: Odd, values: Tensor) -> Tensor:
    return model.fc(_pooled(values)) + model.fc(_pooled(values.relu()))


def _draws(model: Odd, values: Tensor) -> Tensor:
    return model.fc(dropout(_pooled(values), 0.5, True))


def _breaks(model: Odd, values: Tensor) -> Tensor:
    return model.fc(values.flatten(1))


ODD = {
    "two heads": (_two_heads, "its logits do not come from its last layer, second, alone"),
    "joined heads": (_joined_heads, "its logits do not come from its last layer, second, alone"),
    "fixed width": (_fixed_width, "its logits do not come from its last layer, fc, alone"),
    "several outputs": (_several, "its logits do not come from its last layer, fc, alone"),
    "one head twice": (_twice, "computes its last layer, fc, more than once"),
    "own random numbers": (_draws, "draws random numbers in training"),
    "does not run": (_breaks, "cannot be run on 8 x 8 x 8 values"),
}


@pytest.mark.parametrize("name", ODD)
def test_network_without_one_head_is_refused(name: str, capfd: pytest.CaptureFixture[str]):
    last, problem = ODD[name]
    with torch.random.fork_rng(devices=[]):
        model = Odd(last)
    before = torch.get_rng_state()
    with pytest.raises(InputError, match=f"^backbone='small': {problem}.*; choose ") as caught:
        small("place", model=model)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_on_both_sides_of_the_cut_are_refused():
    model = Odd(lambda own, values: own.fc(_pooled(own.block(values))))
    with pytest.raises(InputError, match="^cut='place': divides the network into parts that share"):
        small("place", model=model)


class Crossing(nn.Module):
    """Something else than a map crosses the cut."""

    def __init__(self, made: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 2, 2)
        self.stage = _Stage(made)
        self.place = _Flat()
        self.fc = nn.Linear(8, 5)

    def forward(self, values: Tensor) -> Tensor:
        return self.fc(self.place(self.stage(self.conv(values))))


class _Stage(nn.Module):
    def __init__(self, made: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.forward = made


class _Flat(nn.Module):
    def forward(self, values: object) -> Tensor:
        found = values[0] if isinstance(values, list) else values
        assert isinstance(found, Tensor)
        return found.reshape(len(found), -1)[:, :8]


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (lambda v: [v, v], "the value that crosses it is a list, not a tensor"),
        (lambda v: v[None], r"the tensor that crosses it has shape \(1, 2, 8, 8, 8\)"),
        (lambda v: v.flatten(0, 1)[:, None], r"the tensor that crosses it has shape \(16,"),
    ],
)
def test_what_is_no_map_is_refused(made: Callable[[Tensor], object], problem: str):
    with pytest.raises(InputError, match=f"^cut='place': {problem}") as caught:
        small("place", model=Crossing(made))
    assert "\n" not in str(caught.value)


class Hidden(nn.Module):
    """Changes its input in place, in a layer of which nothing outside shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Sequential(nn.ReLU(inplace=True)))

    def forward(self, values: Tensor) -> Tensor:
        return self.layers(values).add_(1)


def test_features_stay_where_a_layer_changes_them_deep_inside():
    model = Small()
    model.block = Hidden()  # pyright: ignore[reportAttributeAccessIssue]
    model.rectify = nn.ReLU()
    network = small("block", model=model)
    features = torch.randn(2, *network.feature_shape, generator=torch.Generator().manual_seed(0))
    before = features.clone()
    network(features)
    assert torch.equal(features, before)


class Attention(nn.Module):
    """One head of attention over places, fused where it may be, as in timm."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.fused_attn = True
        self.attn_drop = nn.Dropout(probability)

    def forward(self, values: Tensor) -> Tensor:
        tokens = values.flatten(2).mT
        if self.fused_attn:
            mixed = nn.functional.scaled_dot_product_attention(
                tokens, tokens, tokens, dropout_p=self.attn_drop.p if self.training else 0.0
            )
        else:
            scores = (tokens @ tokens.mT / values.shape[1] ** 0.5).softmax(-1)
            mixed = self.attn_drop(scores) @ tokens
        return mixed.mT.reshape(values.shape)


def _attentive(probability: float, dropout: float | None = None) -> SplitNetwork:
    model = Small(dropout=0.0)
    model.block = Attention(probability)  # pyright: ignore[reportAttributeAccessIssue]
    return small("block", dropout, model)


@pytest.mark.parametrize(("own", "asked"), [(0.3, None), (0.0, 0.3)])
def test_masks_of_attention_come_from_our_generator(own: float, asked: float | None):
    network = _attentive(own, asked).train()
    maps = torch.randn(4, *network.feature_shape, generator=torch.Generator().manual_seed(1))
    before = torch.get_rng_state()
    found = []
    for seed in (0, 0, 1):
        network.use_generator(torch.Generator().manual_seed(seed))
        found.append(network(maps))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_attention_without_dropout_stays_fused():
    network = _attentive(0.0)
    (attention,) = [m for m in network.tail.modules() if isinstance(m, Attention)]
    assert attention.fused_attn
    assert isinstance(attention.attn_drop, SeededDropout)


class Follows(nn.Module):
    """A norm of a class of its own that follows the batches in training, as EvoNorm does."""

    def __init__(self) -> None:
        super().__init__()
        self.running_var: Tensor
        self.register_buffer("running_var", torch.ones(1))

    def forward(self, values: Tensor) -> Tensor:
        if self.training:
            self.running_var.copy_(values.var())
        return values / self.running_var.sqrt()


def test_norms_of_any_class_keep_their_statistics():
    model = Small()
    model.norm = Follows()  # pyright: ignore[reportAttributeAccessIssue]
    network = small(model=model).train()
    network.use_generator(torch.Generator())
    network(torch.randn(2, *network.feature_shape, generator=torch.Generator().manual_seed(0)))
    assert network.state_dict()["tail.norm.running_var"].item() == 1


@pytest.mark.parametrize("entering", [True, False])
def test_nothing_after_the_head_is_computed(entering: bool):
    computed: list[str] = []
    network = small("place", model=Odd(lambda own, values: own.rectify(own.fc(_pooled(values)))))
    for name in ("fc", "rectify"):
        layer = network.tail.get_submodule(name)
        layer.register_forward_hook(lambda *_, name=name: computed.append(name))
    maps = torch.ones(2, *network.feature_shape)
    found = network.penultimate(maps) if entering else network(maps, linear=True)
    assert found.shape == ((2, 8) if entering else (2, 5))
    assert computed == ([] if entering else ["fc"])
