"""LoRA: low-rank changes of the attention layers of a frozen network.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen, "LoRA: Low-Rank Adaptation of Large Language
Models", ICLR 2022, arXiv 2106.09685.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crumb.errors import InputError, require, setting
from crumb.methods.base import BytesHeld
from crumb.methods.finetune import Finetune
from crumb.methods.registry import register
from crumb.methods.training import TrainingConfig
from crumb.nets.attention import attention_layers
from crumb.nets.split import SplitNetwork


@dataclass(frozen=True)
class LoraConfig(TrainingConfig):
    """Settings of LoRA."""

    rank: int = 4
    """Rank of the change of each layer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("rank", self.rank, 1 <= self.rank <= 1 << 16, "from 1 to 65536")


class LowRank(nn.Module):
    """The change of a linear layer: float [..., in] to float [..., out], zero at first.

    Args:
        layer: the layer.
        rank: rank of the change.
        generator: generator of the first factor (CPU).
    """

    def __init__(self, layer: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = layer.in_features**-0.5
        down = torch.empty(rank, layer.in_features).uniform_(-bound, bound, generator=generator)
        self.down = nn.Parameter(down)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, values: Tensor) -> Tensor:
        """The change of the layer's output."""
        return values @ self.down.T @ self.up.T


@register
class Lora(Finetune):
    """Fine-tuning of low-rank changes and the head alone; the pretrained tail is frozen.

    Beside each linear layer W of the attention modules in the tail, a product of two factors is
    trained: the output becomes W x + B A x. A is random and B is zero at first, so the network
    starts as the pretrained one. The head is trained as well. Nothing counters forgetting but the
    small number of weights that change. The paper scales B A x by alpha / rank. Here this factor is
    1. The paper adapts the query and value projections of language models. Image networks mostly
    compute queries, keys and values in one layer, which is adapted as a whole, and so is the output
    projection.

    Only networks with attention modules can be used, cut before at least one of them. Layers whose
    weights are read without calling the layer are not adapted. The factors count as extra bytes.
    """

    name = "lora"
    summary = "trains low-rank changes of attention layers, the tail is frozen"
    paper = "Hu et al., ICLR 2022"
    keeps = "two factors for each attention layer"
    Config = LoraConfig
    needs_attention = True

    def __init__(
        self, network: SplitNetwork, config: LoraConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        layers = attention_layers(network)
        if not layers:
            problem = f"has no attention layer after {setting('cut', network.backbone.cut)}"
            remedy = f"choose a vision transformer of timm, or an earlier {setting('cut')}"
            raise InputError(setting("backbone", network.config.backbone), problem, remedy)
        largest = min(min(layer.in_features, layer.out_features) for layer in layers.values())
        require("rank", config.rank, config.rank <= largest, f"at most {largest}")
        network.tail.requires_grad_(False)
        super().__init__(network, config, seed, device)
        for name, layer in layers.items():
            change = LowRank(layer, config.rank, self.generators["head"])
            self.add_adapter(name.replace(".", "_"), change, name)

    def bytes_held(self) -> BytesHeld:
        """The factors."""
        return BytesHeld(0, self.network.adapter_bytes)
