"""A tiny data set of real frames and a tiny network, for streams that last a second."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import timm
import torch

from crumb.data.images import load_images
from crumb.data.index import Dataset, write_dataset
from crumb.data.sets.toybox import index_toybox
from crumb.files import write_tensors
from crumb.nets.config import Preprocessing

_OBJECTS = (
    "animals/person_01_pivothead",
    "households/bed_01_pivothead",
    "households/bottle_01_pivothead",
    "vehicles/car_01_pivothead",
)
_FRAMES = (1, 6, 11)
_BACKBONE, _CUT, _SIZE = "test_efficientnet", "blocks.4", 160


def short_stream(folder: Path) -> list[str]:
    """Make what a short stream needs.

    Args:
        folder: empty folder for data set and weights.

    Returns:
        words for ``crumb stream``: the data set (4 classes, 84 training images, 36 test images),
        the network, and a learning rate and batch size that are enough to learn something.
    """
    dataset, weights = _dataset(folder), folder / "weights.safetensors"
    _write_weights(dataset, weights)
    network = ["--backbone", _BACKBONE, "--cut", _CUT, "--weights", str(weights)]
    return [str(dataset.folder), *network, "--lr", "0.02", "--batch-size", "12"]


def _dataset(folder: Path) -> Dataset:
    """Three frames of each sample clip of one object of each class."""
    sample = Path(str(files("crumb") / "sample" / "clips"))
    for one in _OBJECTS:
        shutil.copytree(sample / one, folder / "clips" / one)
    whole = index_toybox(folder / "clips", folder / "data", workers=1)
    index = whole.index[whole.index["im_num"].isin(_FRAMES)].reset_index(drop=True)
    small = replace(whole, index=index)
    write_dataset(small)
    return small


def _write_weights(dataset: Dataset, path: Path) -> None:
    """Random weights with batch norm statistics of the data set, with which the tail can learn."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = timm.create_model(_BACKBONE).train()
    pixels = load_images(dataset.images, list(dataset.index["im_path"][::4]), _SIZE)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(Preprocessing(_SIZE)(pixels))
    write_tensors(path, model.state_dict(), {})
