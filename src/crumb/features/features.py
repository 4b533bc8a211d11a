"""Feature maps of a frozen front, and decoded images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from crumb.data.images import load_images
from crumb.data.pictures import DECODING
from crumb.data.resize import Interpolation, Resize
from crumb.features.store import Request, Store
from crumb.files import bytes_of
from crumb.memory.images import ImageForm
from crumb.nets.config import PREPROCESSING
from crumb.nets.engines import version_of
from crumb.nets.split import SplitNetwork
from crumb.plugins import is_reference


class PixelStore(Store):
    """Decoded images, uint8 [3, size, size].

    Args:
        images: root folder of the paths.
        size: side of the images in pixels.
        device: device of the result.
        workers: number of threads.
        resize: how they are made square.
        interpolation: filter that resizes them.
    """

    what = "pixels"

    def __init__(
        self,
        images: Path,
        size: int,
        device: torch.device,
        workers: int,
        resize: Resize = "squash",
        interpolation: Interpolation = "bilinear",
    ) -> None:
        super().__init__(images, (3, size, size), torch.uint8, device, workers)
        self._square: tuple[int, Resize, Interpolation] = (size, resize, interpolation)

    def compute(self, paths: Sequence[str]) -> Tensor:
        """Read and decode image files."""
        return load_images(self._images, paths, *self._square)

    def fingerprint(self) -> str:
        """Digest of the resize settings and the decoder."""
        made = f"{self._square} {_decoding()}"
        return hashlib.sha256(made.encode()).hexdigest()[:16]


class FeatureStore(Store):
    """Feature maps of images from the frozen front of a network, float32 [C, H, W].

    Features are bit-identical whether they are cached or not, and for any number of workers.

    Args:
        network: network whose front is used.
        images: root folder of the paths.
        workers: threads.
        form: form of stored images through which images pass first, if given.

    Attributes:
        pixels: store of the images themselves, for learners that need them.
    """

    what = "features"

    def __init__(
        self, network: SplitNetwork, images: Path, workers: int, form: ImageForm | None = None
    ) -> None:
        channels, height, width = network.feature_shape
        self._network, self._form = network, form
        device = next(network.parameters()).device
        # Rows are in the order of channels-last memory, the memory format of feature maps.
        super().__init__(images, (height, width, channels), torch.float32, device, workers)
        if network.front_engine() is not None:
            # Engines compute one image at a time.
            self.at_once = 1
        size, resize, interpolation = network.preprocessing.square
        self.pixels = PixelStore(images, size, device, workers, resize, interpolation)

    def finish(self, request: Request) -> Tensor:
        """The feature maps of a request, [n, C, H, W] on the device."""
        return super().finish(request).permute(0, 3, 1, 2)

    def compute(self, paths: Sequence[str]) -> Tensor:
        """Decode images and compute the front on them, always in batches of the same size.

        The rounding of the front depends on the batch size.
        """
        held = self.pixels.covers(paths)
        pixels = self.pixels.request(paths).rows() if held else self.pixels.compute(paths)
        if self._form is not None:
            pixels = self._form(pixels)
        filled = torch.cat([pixels, pixels[:1].expand(self.at_once - len(paths), -1, -1, -1)])
        maps = self._network.features(filled.to(self.device))[: len(paths)]
        return maps.permute(0, 2, 3, 1).cpu()

    def fingerprint(self) -> str:
        """Digest of the front and of everything that affects its rounding."""
        return fingerprint(self._network, self._form)


def fingerprint(network: SplitNetwork, form: ImageForm | None = None) -> str:
    """Digest that changes whenever features would change, 16 hexadecimal digits.

    It covers the front, the form of stored images, the versions of decoding and preprocessing, the
    libraries that decode and compute, and the kind of device and the engine, which affect rounding.
    """
    device = next(network.parameters()).device
    if device.type == "cuda":
        cudnn = torch.backends.cudnn
        rounding = [torch.cuda.get_device_name(device), cudnn.version(), cudnn.deterministic]
        rounding += [cudnn.benchmark, cudnn.allow_tf32]
    else:
        rounding = [torch.backends.cpu.get_cpu_capability()]
    cut = "input" if network.config.trainable == "all" else network.config.cut
    source = [network.config.backbone, cut, network.preprocessing, network.bf16]
    source += [] if form is None else [form]
    source += [] if network.weights_sha256 is None else [network.weights_sha256]
    if (engine := network.front_engine()) is not None:
        source += [version_of(engine.name)]
    library = network.backbone.library
    libraries = [_version("torch"), library if is_reference(library) else _version(library)]
    made = [_decoding(), PREPROCESSING, libraries]
    digest = hashlib.sha256(repr([source, made, rounding]).encode())
    for name, value in network.front.state_dict().items():
        digest.update(name.encode())
        digest.update(bytes_of(value.cpu().contiguous()))
    return digest.hexdigest()[:16]


def _decoding() -> str:
    """Everything that pixels depend on, except the file."""
    return f"decoding {DECODING} {_version('pillow')}"


def _version(library: str) -> str:
    return f"{library} {version(library)}"
