import pytest
import torch

from crumb.benchmarks import assignment
from crumb.benchmarks.assignment import CASES, Case
from crumb.nets.backbones import BACKBONES, build_network
from crumb.nets.config import NetworkConfig


@pytest.mark.parametrize("name", CASES)
def test_cases_are_what_the_backbones_make(name):
    backbone, _, batch = name.partition(", batch ")
    network = build_network(NetworkConfig(backbone, weights="random"))
    assert CASES[name] == Case(int(batch), network.feature_shape, BACKBONES[backbone].block_length)


def test_plain_form_finds_the_same_blocks():
    codebook, features = assignment._inputs(Case(3, (32, 5, 4)), "cpu")
    assert features.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(assignment.plain(codebook, features), codebook.encode(features).long())


@pytest.mark.parametrize("rows", [7, 40, 1000])
def test_bare_form_multiplies_every_slice_once(rows, monkeypatch):
    codebook, features = assignment._inputs(Case(1, (32, 5, 4)), "cpu")
    products = []
    multiply = torch.mm

    def spy(left, right, out):
        products.append(multiply(left, right, out=out).clone())

    monkeypatch.setattr(assignment.torch, "mm", spy)
    with torch.inference_mode():
        assignment.bare(codebook, features, rows)()
        chosen = torch.cat(products).argmax(1)
        assert torch.equal(chosen, assignment.plain(codebook, features).flatten())


def test_row(place, monkeypatch):
    monkeypatch.setattr(assignment, "CASES", {"small": Case(2, (32, 5, 4))})
    extra, plain, bare = assignment.measure(place)
    # The whole matrix alone: 2 x 5 x 4 x 2 slices, 256 blocks, 4 bytes.
    assert extra.figures[0].value >= 80 * 256 * 4 / 1e6
    assert [figure.name for figure in plain.figures] == ["plain", "crumb"]
    assert [figure.name for figure in bare.figures] == ["crumb", "bare"]
    assert plain.details["share_of_equal_indices"] == 1
    assert plain.figures[1] == bare.figures[0]
