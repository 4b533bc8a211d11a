"""Predict and learn with a model of Crumb on a small device, without PyTorch.

    model = crumb_lite.load("kitchen-device")
    model.predict("photo.jpg")
    model.observe("bed.mp4", "bed")
    model.save()

The folder is written by ``crumb export``. Crumb can load it again and continue.
"""

from crumb_lite.errors import InputError
from crumb_lite.model import Model, load

__all__ = ["InputError", "Model", "load"]
__version__ = "0.1.0"
