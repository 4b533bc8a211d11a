"""LoRA: which layers are adapted, a step by hand, what is counted and refused."""

from __future__ import annotations

import pytest
import torch
from networks import TERMS, batch_of, tiny_network
from tests.rounding import assert_rounded
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from crumb.errors import InputError
from crumb.methods.lora import Lora, LoraConfig
from crumb.nets.attention import attention_layers
from crumb.nets.config import Backbone, NetworkConfig, Preprocessing
from crumb.nets.split import SplitNetwork


def learner_of(rank: int = 2, **settings: float) -> Lora:
    learner = Lora(tiny_network(attention=True), LoraConfig(rank=rank, **settings))
    learner.add_classes(["a", "b"])
    return learner


def logits_by_hand(learner: Lora, features: Tensor, factors: dict[str, Tensor]) -> Tensor:
    """The attention of :class:`TinyTransformer` with W + B A for W."""
    weights = learner.network.tail.state_dict()

    def linear(name: str, values: Tensor) -> Tensor:
        change = factors[f"{name}.up"] @ factors[f"{name}.down"]
        weight = weights[f"attention.{name}.weight"] + change
        return values @ weight.T + weights[f"attention.{name}.bias"]

    tokens = features.flatten(2).transpose(1, 2)
    queries, keys, values = linear("qkv", tokens).chunk(3, 2)
    mixed = (queries @ keys.transpose(1, 2)).softmax(2) @ values
    pooled = (tokens + linear("proj", mixed)).mean(1)
    return pooled @ factors["head.weight"].T + factors["head.bias"]


def factors_of(learner: Lora) -> dict[str, Tensor]:
    adapters = learner.network.adapters.state_dict()
    found = {name.replace("attention_", ""): value.clone() for name, value in adapters.items()}
    head = learner.network.head.state_dict()
    return found | {f"head.{name}": value.clone() for name, value in head.items()}


def test_it_starts_as_the_pretrained_network():
    learner, network = learner_of(), tiny_network(attention=True)
    features = batch_of(learner, 0, 1).features
    found = learner.network.penultimate(features)
    assert torch.equal(found, network.penultimate(features))


def test_two_steps_by_hand():
    """In the first, only the zero factors move; in the second, both do."""
    learner = learner_of(lr=0.5, momentum=0.0, weight_decay=0.0)
    frozen = {n: p.clone() for n, p in learner.network.tail.state_dict().items()}
    for step in range(2):
        batch = batch_of(learner, 0, 1, 1, seed=step)
        before = factors_of(learner)
        values = {name: value.requires_grad_() for name, value in before.items()}
        logits = logits_by_hand(learner, batch.features, values)[:, :2]
        loss = cross_entropy(logits, batch.labels)
        gradients = dict(zip(values, torch.autograd.grad(loss, [*values.values()]), strict=True))
        assert_rounded(learner.learn(batch)["direct"], loss.detach(), TERMS, layers=4)
        expected = {n: (v - 0.5 * gradients[n]).detach() for n, v in values.items()}
        assert_rounded(factors_of(learner), expected, TERMS, layers=4, magnitude=4.0)
        moved = {n for n, v in factors_of(learner).items() if not torch.equal(v, before[n])}
        assert ("qkv.down" in moved) == (step == 1)
        assert {"qkv.up", "proj.up", "head.weight"} <= moved
    after = learner.network.tail.state_dict()
    changed = {n for n, value in frozen.items() if not torch.equal(value, after[n])}
    assert changed == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("rank", [1, 3])
def test_factors_are_counted(rank: int):
    """A and B of qkv, 8 to 24, and of proj, 8 to 8."""
    held = learner_of(rank).bytes_held()
    assert (held.replay, held.extra) == (0, 4 * rank * (8 + 24 + 8 + 8))


class Elsewhere(nn.Module):
    """Attention that reads the weights of its layers without calling them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.classifier = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.stem(images).flatten(2).transpose(1, 2)
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.classifier(self.norm(mixed).mean(1))


def test_refused_without_attention_layers_that_are_called():
    with pytest.raises(InputError, match=r"^backbone=.*no attention layer after cut='norm'"):
        Lora(tiny_network(), LoraConfig())
    backbone = Backbone("timm", "elsewhere", "attention", preprocessing=Preprocessing(8))
    config = NetworkConfig("elsewhere", "attention", "random")
    network = SplitNetwork(Elsewhere(), backbone, config)
    assert not attention_layers(network)
    with pytest.raises(InputError, match="no attention layer"):
        Lora(network, LoraConfig())


def test_looking_for_layers_leaves_no_trace():
    network = tiny_network(0.5, attention=True)
    before = network.training, network.maps, torch.get_rng_state().tolist()
    assert [*attention_layers(network)] == ["attention.qkv", "attention.proj"]
    assert (network.training, network.maps, torch.get_rng_state().tolist()) == before


@pytest.mark.parametrize(("rank", "range_"), [(0, "from 1"), (9, "at most 8")])
def test_impossible_ranks(rank: int, range_: str):
    with pytest.raises(InputError, match=f"^rank={rank}: .*{range_}"):
        learner_of(rank)
