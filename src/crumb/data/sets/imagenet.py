"""Index ImageNet in place, from folders of images or tar files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from crumb.data import shards
from crumb.data.class_folders import (
    TEST_SESSION,
    Split,
    beside_lines,
    check_same_classes,
    class_index,
    listed,
    others_lines,
    read_split,
    suffix,
)
from crumb.data.index import shown
from crumb.data.names import canonical
from crumb.data.sets.base import About, Sample, Source, register
from crumb.data.synsets import SYNSETS
from crumb.errors import InputError, setting
from crumb.files import read_text
from crumb.progress import bar

SUFFIXES = (".jpeg", ".jpg", ".png")
_SPLITS = ("train", "val")
_COMPRESSED = re.compile(r"(train|val)-.+\.(tar\..+|tgz|tbz2?|txz|tzst)")
_LAYOUT = "expected are train/<synset>/*.JPEG and val/<synset>/*.JPEG, or train-*.tar and val-*.tar"
_IN_SHARD = "name members <synset>/<name>.JPEG, or give each <key>.jpg a <key>.cls"
_UNSORTED = {
    "train": "move them into train/<synset>/",
    "val": "move them into val/<synset>/, as LOC_val_solution.csv says, "
    "or let torchvision.datasets.ImageNet(ROOT, 'val') unpack the archives",
}
_LONGEST_CLASS = 200
_ALL, _HELD_OUT = 1000, 100


@register
@dataclass(frozen=True, kw_only=True)
class ImageNet(Source):
    """Images like ImageNet's: {train|val}/{synset}/*.JPEG, or train-*.tar and val-*.tar.

    The images stay where they are. Class ids are 0, 1, ... in the order of the synsets, which are
    the class names. There may be any number of classes. val is the test set. Images are resized to
    a square and do not keep their aspect ratio, as published.
    """

    # Members of tar files are <synset>/<name>.JPEG or, in WebDataset's form, <key>.jpg with the
    # class as text in <key>.cls. Numeric class names are ordered by value.

    name: ClassVar[str] = "imagenet"
    about: ClassVar[About] = About(
        title="ImageNet Large Scale Visual Recognition Challenge 2012",
        content="images of 1,000 classes, 1,281,167 to train on and 50,000 to validate",
        size="about 145 GB",
        licence="non-commercial research and education; see its page",
        page="https://www.image-net.org/challenges/LSVRC/2012/",
        download="ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, unpacked into "
        "train/<synset>/ and val/<synset>/",
    )
    published: ClassVar[Mapping[str, int]] = {
        "classes": 1000,
        "images": 1_331_167,
        "objects per class": 1,
        "sessions per object": 2,
        "sessions in all": 2000,
    }
    published_classes: ClassVar[tuple[str, ...]] = SYNSETS

    def sample(self) -> Sample:
        """List the images, and check that every class has training and test images.

        Raises:
            InputError: the folder is not laid out as above, a class lacks one of the splits or is
                empty, an image is outside the class folders, or a tar file is compressed, cut
                short, damaged or holds anything but plain files.
        """
        others: Counter[str] = Counter()
        _check_top(self.root)
        train, val = (_read(self.root, name, others) for name in _SPLITS)
        check_same_classes(self.root, {"train": train, "val": val})
        kept, lines = self.choose(sorted(train, key=_by_value))
        class_ids = {name: number for number, name in enumerate(kept)}
        index = class_index(self.root, train, val, class_ids)
        names = {number: name for name, number in class_ids.items()}
        used = (*_SPLITS, *(tar.name for name in _SPLITS for tar in _shards(self.root, name)))
        left_out = (*lines, *others_lines(others), *beside_lines(self.root, used))
        return Sample(self.root, index, names, (TEST_SESSION,), left_out)

    def choose(self, classes: Sequence[str]) -> tuple[Sequence[str], list[str]]:
        """The used classes in order, and a line about the others."""
        return classes, []


@register
@dataclass(frozen=True, kw_only=True)
class ImageNet900(ImageNet):
    """ImageNet without 100 classes, for pretraining: --classes-file lists these or the rest.

    The original programs use this name for 900 pretraining classes. It is unknown which 100 classes
    they leave out and which ids they use, because no index or script was published. Here the 900
    classes have the ids 0 to 899 in the order of their synsets.
    """

    name: ClassVar[str] = "imagenet900"
    published: ClassVar[Mapping[str, int]] = {}
    published_classes: ClassVar[tuple[str, ...]] = ()

    classes_file: Path | None = None
    """Text file with one synset per line: the 900 to keep or the 100 to hold out. Not needed if
    ROOT has only the 900."""

    def choose(self, classes: Sequence[str]) -> tuple[Sequence[str], list[str]]:
        """The 900 classes that are kept.

        Raises:
            InputError: the file lists other than 900 or 100 classes, one twice or an unknown one,
                or the kept classes are not 900.
        """
        wanted = _ALL - _HELD_OUT
        kept = classes
        if self.classes_file is not None:
            named = _read_classes(self.classes_file, classes)
            if len(named) not in (wanted, _HELD_OUT):
                problem = f"lists {len(named)} classes"
                remedy = f"list the {wanted} that are kept or the {_HELD_OUT} that are held out"
                raise InputError(self.classes_file, problem, remedy)
            kept = [name for name in classes if (name in named) == (len(named) == wanted)]
        if len(kept) != wanted:
            problem = f"has {len(kept)} classes to keep, not {wanted}"
            kinds = f"the {wanted} to keep or the {_HELD_OUT} to hold out"
            remedy = f"{setting('classes_file')} FILE: {kinds}"
            raise InputError(self.root, problem, remedy)
        held_out = [name for name in classes if name not in set(kept)]
        return kept, [f"{len(held_out)} classes: {listed(held_out)}"] if held_out else []


def _by_value(name: str) -> tuple[bool, int, str]:
    number = name.isascii() and name.isdecimal()
    return not number, int(name) if number else 0, name


def _read_classes(path: Path, classes: Sequence[str]) -> set[str]:
    remedy = "write one synset a line, each once"
    known, named = set(classes), set[str]()
    for line, text in enumerate(read_text(path, remedy).splitlines(), 1):
        if not (name := canonical(text.strip())):
            continue
        if name not in known or name in named:
            problem = "is listed twice" if name in named else "has no images"
            raise InputError(f"{path}, line {line}", f"the class {shown(name)} {problem}", remedy)
        named.add(name)
    return named


def _check_top(root: Path) -> None:
    """Refuse a root with a split twice, or with tar files that cannot be read in place."""
    if not root.is_dir():
        raise InputError(root, "is not a folder", _LAYOUT)
    for path in sorted(root.iterdir()):
        if _COMPRESSED.fullmatch(path.name):
            raise InputError(path, "is a compressed tar file", "uncompress it")
    for name in _SPLITS:
        if (root / name).is_dir() and (tars := _shards(root, name)):
            problem = f"exists twice, as a folder and as {listed([tar.name for tar in tars])}"
            raise InputError(root / name, problem, "keep one of the two")
        if not (root / name).is_dir() and not _shards(root, name):
            for path in sorted(root.glob("ILSVRC2012_*.tar")):
                problem = "is a tar file as downloaded, which is not read in place"
                remedy = "unpack it into train/<synset>/ or val/<synset>/"
                raise InputError(path, problem, remedy)
            raise InputError(root, f"has no folder {name} and no {name}-*.tar", _LAYOUT)


def _shards(root: Path, split: str) -> list[Path]:
    return sorted(tar for tar in root.glob(f"{split}-*.tar") if not tar.is_dir())


def _read(root: Path, name: str, others: Counter[str]) -> Split:
    tars = _shards(root, name)
    if not tars:
        return read_split(root / name, SUFFIXES, others, _UNSORTED[name])
    split: Split = {}
    for tar in bar(tars, f"{name} tar files", "file"):
        for image, class_name in _read_shard(tar, others):
            split.setdefault(class_name, []).append(image)
    if not split:
        raise InputError(
            root / f"{name}-*.tar", f"hold no images ({', '.join(SUFFIXES)})", _IN_SHARD
        )
    return split


def _read_shard(tar: Path, others: Counter[str]) -> list[tuple[str, str]]:
    """Path and class of each image in a tar file."""
    names = shards.members(tar)
    texts = {name.removesuffix(".cls") for name in names if name.endswith(".cls")}
    found, used = [], set[str]()
    for name in names:
        kind = suffix(name)
        if kind in SUFFIXES:
            key = _key(name)
            if key in texts:
                if key in used:
                    problem = f"has more than one image of the sample {shown(key)}"
                    raise InputError(tar, problem, "write one image for each .cls")
                used.add(key)
                class_name = _class_text(tar, f"{key}.cls")
            else:
                class_name = _class_folder(tar, name)
            found.append((f"{tar.name}/{name}", class_name))
        elif kind == shards.SUFFIX:
            problem = f"holds the tar file {name}, which is not read in place"
            raise InputError(tar, problem, "unpack it and write its images")
        elif kind != ".cls":
            others[kind] += 1
    if orphans := len(texts - used):
        others[".cls"] += orphans
    return found


def _key(name: str) -> str:
    """Key of a sample's files: the name up to the first dot."""
    path = PurePosixPath(name)
    return (path.parent / path.name.partition(".")[0]).as_posix()


def _class_folder(tar: Path, name: str) -> str:
    folder, _, file = name.partition("/")
    if not file or "/" in file:
        raise InputError(tar, f"has the member {shown(name)} of unknown class", _IN_SHARD)
    return canonical(folder)


def _class_text(tar: Path, name: str) -> str:
    size = shards.members(tar)[name].size
    with shards.open_image(tar / name) as file:
        content = file.read() if size <= _LONGEST_CLASS else b""
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable():
        problem = f"has the member {shown(name)}, which is not a name of a class"
        raise InputError(tar, problem, "write the class as text, on one line")
    return canonical(text)
