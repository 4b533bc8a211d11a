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
        size: side of the images.
        device: on which they are wanted.
        workers: threads.
        resize: what becomes of their aspect ratio.
        interpolation: filter with which they are resized.
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
        """Of how images become square, and of what decodes."""
        made = f"{self._square} {_decoding()}"
        return hashlib.sha256(made.encode()).hexdigest()[:16]


class FeatureStore(Store):
    """What the frozen front of a network makes of images, float32 [C, H, W].

    Features are the same to the bit whether they are held or not, and whatever the number of
    workers.

    Args:
        network: its front is used.
        images: root folder of the paths.
        workers: threads.
        form: through which images pass first, if they do.

    Attributes:
        pixels: the images themselves, for learners that need them.
    """

    what = "features"

    def __init__(
        self, network: SplitNetwork, images: Path, workers: int, form: ImageForm | None = None
    ) -> None:
        channels, height, width = network.feature_shape
        self._network, self._form = network, form
        device = next(network.parameters()).device
        # The order of channels-last memory, which is how maps are handed out.
        super().__init__(images, (height, width, channels), torch.float32, device, workers)
        if network.front_engine() is not None:
            # They compute one image after another.
            self.at_once = 1
        size, resize, interpolation = network.preprocessing.square
        self.pixels = PixelStore(images, size, device, workers, resize, interpolation)

    def finish(self, request: Request) -> Tensor:
        """The feature maps of a request, [n, C, H, W] on the device."""
        return super().finish(request).permute(0, 3, 1, 2)

    def compute(self, paths: Sequence[str]) -> Tensor:
        """Decode images and send them through the front, always as many as a worker takes.

        How the front rounds depends on the number of images that go through it together.
        """
        held = self.pixels.covers(paths)
        pixels = self.pixels.request(paths).rows() if held else self.pixels.compute(paths)
        if self._form is not None:
            pixels = self._form(pixels)
        filled = torch.cat([pixels, pixels[:1].expand(self.at_once - len(paths), -1, -1, -1)])
        maps = self._network.features(filled.to(self.device))[: len(paths)]
        return maps.permute(0, 2, 3, 1).cpu()

    def fingerprint(self) -> str:
        """Of the front, and of what decides how its sums are rounded."""
        return fingerprint(self._network, self._form)


def fingerprint(network: SplitNetwork, form: ImageForm | None = None) -> str:
    """Changes whenever the front would compute other features: 16 hexadecimal digits.

    It stands for the front, for the form through which images pass first, for how images are
    decoded and preprocessed (by number), for the libraries that decode and compute, and for the
    kind of device and the engine, which decide how sums are rounded.
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
    """What pixels depend on besides the file."""
    return f"decoding {DECODING} {_version('pillow')}"


def _version(library: str) -> str:
    return f"{library} {version(library)}"
