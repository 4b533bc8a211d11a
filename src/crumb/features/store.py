"""Compute a tensor for each image of a data set once, with threads and within a budget."""

from __future__ import annotations

import hashlib
import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from crumb.data.pictures import check_image_file
from crumb.data.shards import open_image
from crumb.device import lone_workers
from crumb.errors import InputError
from crumb.features.disk import CacheError, DiskRows
from crumb.features.kinds import CacheKind
from crumb.features.rows import MemoryRows, Rows, row_bytes
from crumb.progress import bar

_Item = TypeVar("_Item", int, str)
# Images that a worker computes at a time. On a CPU, a few images stay in its cache. A GPU needs
# many. # Four are the fastest, or within 1 % of it, with every instruction set that was measured.
# One image # takes up to 28 % longer, sixteen take up to 48 % longer (benchmarks/README.md).
_CPU_IMAGES, _GPU_IMAGES = 4, 64


@dataclass(frozen=True)
class Cache:
    """Where to cache computed tensors, and how many bytes.

    Attributes:
        kind: where to cache. auto uses the disk, or memory if the disk is full or cannot be
            written.
        budget: maximum bytes of all tensors together.
        folder: folder of the files.
    """

    kind: CacheKind
    budget: int
    folder: Path


class Request:
    """Tensors of some images that workers are reading or computing.

    Args:
        parts: positions of images, and the future of their tensors.
    """

    def __init__(self, parts: Sequence[tuple[list[int], Future[Tensor]]]) -> None:
        self._parts = parts

    def rows(self) -> Tensor:
        """Wait for the workers, and return the tensors on the CPU, in the order of the images."""
        found = [(places, future.result()) for places, future in self._parts]
        if len(found) == 1:
            return found[0][1]
        rows = torch.cat([rows for _, rows in found])
        places = torch.tensor([place for places, _ in found for place in places])
        return rows[places.argsort()]

    def cancel(self) -> None:
        """Cancel the parts that no worker has started."""
        for _, future in self._parts:
            future.cancel()


class Store(ABC):
    """Tensors of images. Cached tensors are read, and others are computed at each request.

    The key of a tensor is the digest of the image's bytes, so it never belongs to another image.

    Args:
        images: root folder of the paths.
        row_shape: shape of one tensor.
        dtype: dtype of one tensor.
        device: device of the returned tensors.
        workers: threads that read, decode and compute.

    Attributes:
        device: as given.
        at_once: maximum number of images that a worker computes at a time.
        seconds: time spent in :meth:`hold`.
    """

    what: ClassVar[str]

    def __init__(
        self,
        images: Path,
        row_shape: Sequence[int],
        dtype: torch.dtype,
        device: torch.device,
        workers: int,
    ) -> None:
        self.device = device
        self.seconds = 0.0
        self._images = images
        self._shape, self._dtype = tuple(row_shape), dtype
        self.at_once = _CPU_IMAGES if device.type == "cpu" else _GPU_IMAGES
        self._known: set[str] = set()
        self._keys: dict[str, bytes] = {}
        self._rows: Rows | None = None
        self._workers = workers
        self._pool = lone_workers(workers, self.what)

    @abstractmethod
    def compute(self, paths: Sequence[str]) -> Tensor:
        """Compute the tensors of some images, [n, *row_shape] on the CPU."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of the computation. It changes whenever the tensors would change."""

    @property
    def bytes_held(self) -> int:
        """Bytes of the cached tensors."""
        return len(self._keys) * row_bytes(self._shape, self._dtype)

    def covers(self, paths: Iterable[str]) -> bool:
        """Whether :meth:`hold` was called for all of these images."""
        return self._known.issuperset(paths)

    def hold(self, paths: Iterable[str], cache: Cache, beside: int = 0) -> None:
        """Compute and cache the tensors of as many of these images as the budget allows.

        Args:
            paths: of the images.
            cache: where to cache them, the same in each call.
            beside: bytes that other stores use in memory.

        Raises:
            InputError: an image is missing, damaged or changed during the call, or the cache cannot
                be written.
        """
        started = time.perf_counter()
        distinct = list(dict.fromkeys(paths))
        for path in distinct:
            if path not in self._known:
                check_image_file(self._images / path)
        if cache.kind != "off":
            size = row_bytes(self._shape, self._dtype)
            new = [path for path in distinct if path not in self._keys][: cache.budget // size]
            keys = dict(zip(new, self._pool.map(self._digest, new), strict=True))
            try:
                rows = self._rows or self._on_disk(cache) or self._in_memory(cache, beside)
                self._fill(rows, keys)
            except CacheError:
                if cache.kind == "disk":
                    raise
                rows = self._in_memory(cache, beside)
                keys |= self._keys
                self._fill(rows, keys)
            self._rows = rows
            self._keys = {p: key for p, key in (self._keys | keys).items() if key in rows}
        self._known.update(distinct)
        self.seconds += time.perf_counter() - started

    def request(self, paths: Sequence[str]) -> Request:
        """Start to read or compute the tensors of some images in worker threads."""
        held = [place for place, path in enumerate(paths) if path in self._keys]
        others = [place for place, path in enumerate(paths) if path not in self._keys]
        jobs = [held] if held else []
        jobs += _parts(others, self.at_once)
        return Request(
            [
                (job, self._pool.submit(self._obtain, [paths[place] for place in job]))
                for job in jobs
            ]
        )

    def finish(self, request: Request) -> Tensor:
        """Wait for the tensors of a :meth:`request`, on the device."""
        return request.rows().to(self.device, non_blocking=True)

    def get(self, paths: Sequence[str]) -> Tensor:
        """The tensors of some images on the device, [n, ...]."""
        return self.finish(self.request(paths))

    def _obtain(self, paths: Sequence[str]) -> Tensor:
        """Read or compute the tensors of images that are either all cached or all not."""
        if self._rows is None or paths[0] not in self._keys:
            rows = self.compute(paths)
        else:
            rows, unread = self._rows.read([self._keys[path] for path in paths])
            for part in _parts(unread, self.at_once):
                rows[part] = self.compute([paths[place] for place in part])
        return rows.pin_memory() if self.device.type == "cuda" else rows

    def _fill(self, rows: Rows, keys: dict[str, bytes]) -> None:
        # Identical images with different paths are computed once.
        path_of = {key: path for path, key in keys.items()}
        with rows.filling([*keys.values()]) as missing:
            paths = [path_of[key] for key in missing]
            with bar(None, self.what, "image", total=len(paths)) as progress:
                for part, computed in self._in_order(_parts(paths, self.at_once)):
                    for path in part:
                        # The file is read twice: once for the key and once for the tensor.
                        if self._digest(path) != keys[path]:
                            problem = "changed while it was read"
                            raise InputError(self._images / path, problem, "try again")
                    rows.add([keys[path] for path in part], computed)
                    progress.update(len(part))

    def _in_order(self, parts: Sequence[Sequence[str]]) -> Iterator[tuple[Sequence[str], Tensor]]:
        """Compute the parts in order, only as far ahead as needed to keep the workers busy."""
        waiting: deque[tuple[Sequence[str], Future[Tensor]]] = deque()
        try:
            for part in parts:
                waiting.append((part, self._pool.submit(self.compute, part)))
                if len(waiting) > 2 * self._workers:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()

    def _digest(self, path: str) -> bytes:
        check_image_file(self._images / path)
        try:
            with open_image(self._images / path) as file:
                return hashlib.file_digest(file, "sha256").digest()[:16]
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
            raise InputError(self._images / path, problem, "restore it, or index again") from error

    def _on_disk(self, cache: Cache) -> Rows | None:
        if cache.kind == "memory":
            return None
        folder = cache.folder / f"{self.what}_{self.fingerprint()}"
        about = {"row_shape": list(self._shape), "dtype": str(self._dtype)}
        return DiskRows(folder, about, self._shape, self._dtype, cache.budget)

    def _in_memory(self, cache: Cache, beside: int) -> Rows:
        limit = cache.budget if cache.kind == "memory" else _machine_memory() // 2
        return MemoryRows(self._shape, self._dtype, min(cache.budget, limit) - beside)


def _parts(items: list[_Item], size: int) -> list[list[_Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
