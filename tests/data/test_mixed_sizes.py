"""Images of very different sizes in one stream: their order, and how many there are at a time."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from class_trees import add, picture, write_tar
from PIL import Image

from crumb.data import pictures as pictures_module
from crumb.data.protocol import Frames
from crumb.features import features
from crumb.features.features import PixelStore
from crumb.stream.feed import Reading


class Alive:
    """Counts the images that are alive, and the most there were."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.now += count
            self.most = max(self.most, self.now)


@pytest.mark.parametrize("inside", [False, True])
def test_images_of_very_different_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
):
    """In order, and no more of them at a time than are decoded and wait for the learner."""
    count, batch, workers, size = 36, 3, 2, 32
    greys = [5 * place for place in range(count)]
    pictures = [
        (f"n1/{grey:03}.JPEG", picture(grey, (4000, 3000) if place % 6 == 1 else (350, 350)))
        for place, grey in enumerate(greys)
    ]
    if inside:
        write_tar(tmp_path / "train-0.tar", pictures)
    else:
        for name, content in pictures:
            add(f"train-0.tar/{name}", content)(tmp_path)
    opened, loaded = Alive(), Alive()
    sides: list[int] = []
    to_square, load = pictures_module.pil_to_square, features.load_images

    def watch_opened(image: Image.Image, *more) -> np.ndarray:
        opened.add(1)
        sides.extend(image.size)
        try:
            return to_square(image, *more)
        finally:
            opened.add(-1)

    def watch_loaded(*words) -> torch.Tensor:
        pixels = load(*words)
        loaded.add(len(pixels))
        weakref.finalize(pixels, loaded.add, -len(pixels))
        return pixels

    monkeypatch.setattr(pictures_module, "pil_to_square", watch_opened)
    monkeypatch.setattr(features, "load_images", watch_loaded)
    store = PixelStore(tmp_path, size, torch.device("cpu"), workers)
    paths = [f"train-0.tar/{name}" for name, _ in pictures]
    shuffled = np.random.default_rng(0).permutation(count)
    frames = Frames(tuple(paths[place] for place in shuffled), shuffled)
    seen = []
    reading = Reading(frames, Pixels(store), batch)  # pyright: ignore[reportArgumentType]
    for part in reading:
        seen += zip(
            part.features.float().mean((1, 2, 3)).tolist(), part.labels.tolist(), strict=True
        )
    assert [label for _, label in seen] == shuffled.tolist()
    assert np.abs(np.array([grey for grey, _ in seen]) - 5 * shuffled).max() < 2
    # One image a worker is open; a batch is learned from while three more are made.
    assert opened.most <= workers
    assert loaded.most <= 4 * batch + workers
    # A large JPEG is never decoded at its full size.
    assert max(sides) == 500


class Pixels:
    """A store whose features are the pixels."""

    def __init__(self, store: PixelStore) -> None:
        self.request, self.finish = store.request, store.finish
