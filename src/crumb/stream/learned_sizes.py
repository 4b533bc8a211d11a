"""File sizes of the images that a run has learned from, as a digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from crumb.data.protocol import Frames

# On a network drive, most of the time to read a file size is waiting.
_THREADS = 16
_FILES = 1024


class LearnedSizes:
    """Digests of the image sizes of the first tasks of a run.

    The size of each image is read once, when its task is first requested. Images of later tasks may
    still be repaired.

    Args:
        images: root folder of the image paths.
        tasks: tasks of the run.
    """

    def __init__(self, images: Path, tasks: Sequence[Frames]) -> None:
        self._images, self._tasks = os.fspath(images), tasks
        self._restart()

    def _restart(self) -> None:
        self._done, self._seen = 0, set[str]()
        self._found = hashlib.sha256(b"[")

    def digest(self, tasks: int) -> str:
        """SHA-256 of the list of sizes (bytes) in the order of the images, in hexadecimal.

        An image that is not a file of its own counts as -1.

        Args:
            tasks: number of tasks, from the first.
        """
        if tasks < self._done:
            self._restart()
        for frames in self._tasks[self._done : tasks]:
            self._add([path for path in dict.fromkeys(frames.paths) if path not in self._seen])
        self._done = tasks
        whole = self._found.copy()
        whole.update(b"]")
        return whole.hexdigest()

    def _add(self, paths: Sequence[str]) -> None:
        with ThreadPoolExecutor(_THREADS) as pool:
            starts = range(0, len(paths), _FILES)
            parts = pool.map(lambda start: self._sizes(paths[start : start + _FILES]), starts)
            sizes = [size for part in parts for size in part]
        if sizes:
            comma = ", " if self._seen else ""
            self._found.update((comma + ", ".join(map(str, sizes))).encode())
            self._seen.update(paths)

    def _sizes(self, paths: Sequence[str]) -> list[int]:
        return [_bytes(os.path.join(self._images, path)) for path in paths]  # noqa: PTH118


def _bytes(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        # The image is in a shard, or was removed after the model learned from it.
        return -1
