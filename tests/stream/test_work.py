"""The work of a run, counted: 84 images in four tasks of 21, in batches of 12 and 9."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from crumb.methods.previous import PreviousNetwork
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig
from crumb.stream.record import read_record
from crumb.stream.results import Results

Streamed = Callable[..., Results]
ONE_CLASS = ["--classes-per-task", "1"]


def figures(results: Results) -> dict[str, float]:
    (run,) = json.loads((results.folder / "metrics.json").read_text())["runs"]
    return {name: run[name] for name in ("gradient_steps", "tail_maps", "image_passes")}


def test_one_step_a_batch_and_one_map_an_image(streamed: Streamed):
    """The first task is read twice, the others once: five readings of two batches, 21 images."""
    found = figures(streamed("--method", "finetune", *ONE_CLASS))
    assert found == {"gradient_steps": 10, "tail_maps": 105, "image_passes": 105 / 84}


def test_replay_takes_steps_and_maps_and_the_memory_a_reading(streamed: Streamed):
    """Replay of one, two and three absent classes: 12 + 9, 12 + 10 and 12 + 9 maps.

    Three tasks are read once more to be stored, which needs no tail.
    """
    found = figures(streamed("--method", "crumb", *ONE_CLASS))
    assert found == {"gradient_steps": 16, "tail_maps": 105 + 64, "image_passes": 168 / 84}


def test_tests_and_selection_are_not_counted(streamed: Streamed):
    """A tenth or so of the images is held out, and neither shown nor counted."""
    results = streamed("--method", "finetune", *ONE_CLASS, "--select-best-epoch")
    (record,) = results.finished()
    assert record.distinct_images is not None
    assert record.distinct_images < 84
    assert record.tail_maps == record.images
    assert figures(results)["image_passes"] == record.images / record.distinct_images


def test_every_way_through_the_tail_counts(weights: Path, network_words: list[str]):
    network = build_network(NetworkConfig(network_words[1], network_words[3], str(weights)))
    maps = torch.zeros(3, *network.feature_shape)
    teacher = PreviousNetwork(network)
    teacher.finish(2)
    for number, way in enumerate(
        (network, network.penultimate, lambda f: network(f, linear=True), teacher.logits), 1
    ):
        way(maps)
        assert network.maps == 3 * number


@pytest.mark.parametrize("left", [(), ("images_read_again", "distinct_images")])
def test_a_run_that_did_not_count_stays_readable(streamed: Streamed, left: tuple[str, ...]):
    """Of a Crumb before it was counted."""
    results = streamed("--method", "finetune", *ONE_CLASS)
    path = results.folder / "runs" / "run0.json"
    value = json.loads(path.read_text())
    for name in left or ("gradient_steps", "tail_maps", "images_read_again", "distinct_images"):
        del value[name]
    path.write_text(json.dumps(value))
    found = read_record(path).figures()
    assert found["image_passes"] is None
    assert found["gradient_steps"] == (10 if left else None)
