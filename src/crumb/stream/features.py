"""Feature maps of a frozen front, computed once for each image."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from crumb.data.images import load_image, load_images
from crumb.errors import InputError
from crumb.nets.split import SplitNetwork

_BATCH = 64
# Batches decoded ahead of the front, so that neither waits for the other.
_AHEAD = 4


def fingerprint(network: SplitNetwork) -> str:
    """Changes whenever the front would compute other features."""
    digest = hashlib.sha256(repr((network.config.backbone, network.config.cut)).encode())
    for name, value in network.front.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class FeatureStore:
    """The feature map of each image of a data set.

    As many as the budget allows are computed at the start and kept in memory; the others are
    computed whenever they are asked for, which gives the same features up to rounding.

    Args:
        network: its front is used.
        images: root folder of the paths.
        paths: of the images.
        budget: bytes of feature maps to hold.
        workers: threads that decode images.

    Attributes:
        seconds: that decoding and computing the features held took.

    Raises:
        InputError: an image is missing, or one of those held is broken.
    """

    def __init__(
        self,
        network: SplitNetwork,
        images: Path,
        paths: Sequence[str],
        budget: int,
        workers: int,
    ) -> None:
        self._network = network
        self._images = images
        self._device = next(network.parameters()).device
        channels, height, width = network.feature_shape
        distinct = list(dict.fromkeys(paths))
        held = distinct[: budget // (4 * channels * height * width)]
        for path in distinct[len(held) :]:
            if not (images / path).is_file():
                raise InputError(images / path, "no such image", "restore it, or index again")
        self._known = set(distinct)
        self._row = {path: row for row, path in enumerate(held)}
        self._features = torch.empty((len(held), *network.feature_shape))
        started = time.perf_counter()
        self._fill(held, workers)
        self.seconds = time.perf_counter() - started

    def _fill(self, paths: list[str], workers: int) -> None:
        progress = tqdm(total=len(paths), desc="features", unit="image", disable=None)
        with ThreadPoolExecutor(workers) as pool, progress:
            row = 0
            for pixels in self._decode(paths, pool):
                maps = self._network.features(pixels.to(self._device))
                self._features[row : row + len(maps)] = maps.cpu()
                row += len(maps)
                progress.update(len(maps))

    def _decode(self, paths: list[str], pool: ThreadPoolExecutor) -> Iterator[Tensor]:
        size = self._network.preprocessing.size
        chunks = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]

        def submit(chunk: list[str]) -> list:
            return [pool.submit(load_image, self._images / path, size) for path in chunk]

        waiting = [submit(chunk) for chunk in chunks[:_AHEAD]]
        try:
            for following in itertools.chain(chunks[_AHEAD:], itertools.repeat(None)):
                if not waiting:
                    return
                pixels = torch.stack([future.result() for future in waiting.pop(0)])
                if following is not None:
                    waiting.append(submit(following))
                yield pixels
        finally:
            for future in itertools.chain.from_iterable(waiting):
                future.cancel()

    def covers(self, paths: Sequence[str]) -> bool:
        """Whether the store was opened for all of these images."""
        return self._known.issuperset(paths)

    def features(self, paths: Sequence[str]) -> Tensor:
        """Feature maps, float32 [n, C, H, W] on the network's device."""
        rows = [self._row.get(path, -1) for path in paths]
        if min(rows) >= 0:
            return self._features[rows].to(self._device)
        missing = [path for path, row in zip(paths, rows, strict=True) if row < 0]
        maps = (
            self._features[rows]
            if len(self._row)
            else self._features.new_empty((len(rows), *self._features.shape[1:]))
        )
        maps = maps.to(self._device)
        computed = self._network.features(self.pixels(missing))
        maps[[place for place, row in enumerate(rows) if row < 0]] = computed
        return maps

    def pixels(self, paths: Sequence[str]) -> Tensor:
        """Images, uint8 [n, 3, S, S] on the network's device."""
        size = self._network.preprocessing.size
        return load_images(self._images, paths, size).to(self._device)
