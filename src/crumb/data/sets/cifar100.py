"""Index CIFAR-100 from torchvision's files or from PNG images."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from PIL import Image

from crumb.data.class_folders import (
    TEST_SESSION,
    Split,
    beside_lines,
    check_same_classes,
    class_index,
    listed,
    others_lines,
    read_split,
)
from crumb.data.sets.base import About, Sample, Source, register
from crumb.errors import InputError, setting
from crumb.files import write_bytes
from crumb.progress import bar

_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab
    crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
    keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse
    mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
    porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
    snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television
    tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CLASSES = tuple(_NAMES.split())
"""Class names in the order of their ids, 0 to 99."""

IMAGES_PER_CLASS = {"train": 500, "test": 100}
_TORCHVISION = "cifar-100-python"
_ARCHIVE = f"{_TORCHVISION}.tar.gz"
_LAYOUT = f"expected is {_TORCHVISION}/ as torchvision leaves it, or {{train|test}}/<class>/*.png"


@register
@dataclass(frozen=True, kw_only=True)
class Cifar100(Source):
    """CIFAR-100: torchvision's cifar-100-python/, or PNG images {train|test}/{class}/*.png.

    Torchvision's files are written as PNG images into the output folder, with the names that
    cifar2png gives them; PNG images stay where they are. Class ids are 0 to 99 alphabetically, the
    published test images are what is tested on.

    Torchvision's files are pickles, which could run any code when they are read. So each file is
    compared with its published MD5 sum before it is read. There is no known way to make another
    file with a given MD5 sum.
    """

    name: ClassVar[str] = "cifar100"
    about: ClassVar[About] = About(
        title="CIFAR-100",
        content="32 x 32 images of 100 classes, 500 to train on and 100 to test on each",
        size="161 MB",
        licence="see its page",
        page="https://www.cs.toronto.edu/~kriz/cifar.html",
        download="cifar-100-python.tar.gz, which makes cifar-100-python/; --download fetches it",
    )
    published: ClassVar[Mapping[str, int]] = {
        "classes": 100,
        "images": 60_000,
        "images per class": 600,
        "objects per class": 1,
        "sessions per object": 2,
        "sessions in all": 200,
    }
    published_classes: ClassVar[tuple[str, ...]] = CLASSES

    download: bool = False
    """Let torchvision fetch the data set into ROOT, unless it is there."""

    def sample(self) -> Sample:
        """List the PNG images, after they are written if they come from torchvision's files.

        Raises:
            InputError: ROOT holds neither or both, a file of torchvision's is missing or not the
                published one, it cannot be fetched, a folder is no class of CIFAR-100 or has no
                images in one of the halves, or the output folder cannot be written.
        """
        others: Counter[str] = Counter()
        beside: list[str] = []
        trees = [self.root / half for half in IMAGES_PER_CLASS if (self.root / half).is_dir()]
        pickles = self.root / _TORCHVISION
        if trees and (self.download or pickles.is_dir()):
            problem = f"holds PNG images in {trees[0].name}/, and {_TORCHVISION}/ is asked for"
            raise InputError(self.root, problem, "name a folder that holds one of the two")
        if trees:
            images = self.root
            splits = {half: _read(images / half, others) for half in IMAGES_PER_CLASS}
            beside = beside_lines(images, IMAGES_PER_CLASS)
        else:
            images = self.folder / "images"
            if self.download:
                _fetch(self.root)
            elif not pickles.is_dir():
                _check_layout(self.root)
            _check_published(pickles)
            splits = _write(self.root, images)
        check_same_classes(images, splits)
        class_ids = {name: n for n, name in enumerate(CLASSES) if name in splits["train"]}
        index = class_index(images, splits["train"], splits["test"], class_ids)
        names = {number: name for name, number in class_ids.items()}
        left_out = (*_missing(splits), *others_lines(others), *beside)
        return Sample(images, index, names, (TEST_SESSION,), left_out)


def _read(folder: Path, others: Counter[str]) -> Split:
    """The PNG images of one split."""
    split = read_split(folder, (".png",), others, f"move them into {folder.name}/<class>/")
    whole = IMAGES_PER_CLASS[folder.name]
    for name, images in split.items():
        if name not in CLASSES:
            raise InputError(folder / name, "is not a class of CIFAR-100", "rename or remove it")
        if len(images) > whole:
            problem = f"holds {len(images)} images, where CIFAR-100 has {whole}"
            raise InputError(folder / name, problem, "remove the others")
    return split


def _missing(splits: Mapping[str, Split]) -> list[str]:
    """Lines about missing classes and images."""
    lines = []
    for half, split in splits.items():
        whole = IMAGES_PER_CLASS[half]
        short = [name for name in CLASSES if 0 < len(split.get(name, ())) < whole]
        if short:
            counts = [f"{name} {len(split[name])}" for name in short]
            lines.append(f"{half} images that are not there, of {whole} a class: {listed(counts)}")
    if absent := [name for name in CLASSES if name not in splits["train"]]:
        lines.append(f"{len(absent)} of 100 classes that are not there: {listed(absent)}")
    return lines


def _write(root: Path, images: Path) -> dict[str, Split]:
    """Write torchvision's images as ``{train|test}/{class}/{4 digits}.png`` below ``images``.

    The digits count from 1 in each class, in the order of the file.
    """
    from torchvision.datasets import CIFAR100

    splits: dict[str, Split] = {}
    for half in IMAGES_PER_CLASS:
        loaded = CIFAR100(root, train=half == "train")
        split = splits[half] = {}
        rows = zip(loaded.data, loaded.targets, strict=True)
        for pixels, label in bar(rows, half, "image", total=len(loaded.targets)):
            name = loaded.classes[label]
            paths = split.setdefault(name, [])
            paths.append(f"{half}/{name}/{len(paths) + 1:04}.png")
            content = io.BytesIO()
            Image.fromarray(pixels).save(content, "PNG", compress_level=1)
            write_bytes(images / paths[-1], content.getvalue(), sync=False)
    return splits


def _check_published(folder: Path) -> None:
    """Refuse torchvision's files, before any is read, unless they are the published ones."""
    from torchvision.datasets import CIFAR100
    from torchvision.datasets.utils import check_integrity

    meta = (CIFAR100.meta["filename"], CIFAR100.meta["md5"])
    for name, md5 in (*CIFAR100.train_list, *CIFAR100.test_list, meta):
        path = folder / name
        try:
            published = check_integrity(path, md5)
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
            raise InputError(path, problem, "restore it or its rights") from error
        if not published:
            problem = "is not the published file" if path.exists() else "is missing"
            raise InputError(
                path, problem, f"remove the folder, then fetch it with {setting('download')}"
            )


def _fetch(root: Path) -> None:
    """Let torchvision download and unpack the archive, unless its files are complete."""
    from torchvision.datasets import CIFAR100

    try:
        CIFAR100(root, download=True)
    # No network, a full disk, or an archive that is cut short or not the published one.
    except (OSError, RuntimeError, EOFError, tarfile.TarError, zlib.error) as error:
        problem = f"CIFAR-100 cannot be fetched into it ({error})"
        raise InputError(root, problem, f"put {_ARCHIVE} there by hand, then try again") from error


def _check_layout(root: Path) -> None:
    """Say what to do with a folder that holds neither PNG images nor torchvision's files."""
    if not root.is_dir():
        raise InputError(root, "is not a folder", _LAYOUT)
    if (root / "train").is_file() and (root / "meta").is_file():
        raise InputError(
            root, f"is the folder {_TORCHVISION} itself", "give the folder that holds it"
        )
    if (root / _ARCHIVE).is_file():
        raise InputError(
            root / _ARCHIVE, "is not unpacked", f"unpack it, or give {setting('download')}"
        )
    raise InputError(root, "holds no CIFAR-100", f"{_LAYOUT}; {setting('download')} fetches it")
