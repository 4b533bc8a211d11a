"""The readers of foreign bytes, each as a function of bytes that must not fail.

A target must end normally or raise ``InputError``. Anything else is a bug, including a warning.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from crumb.cli.parsing import Preset, read_preset
from crumb.data.decode import ClipFile, decode_clips
from crumb.data.filelists import read_task_list
from crumb.data.images import load_image
from crumb.data.index import load_dataset, read_index
from crumb.data.sets.folder_table import read_table
from crumb.data.shards import members, open_image
from crumb.data.video import frames_at_one_per_second
from crumb.errors import InputError
from crumb.features.disk import DiskRows
from crumb.files import read_json, read_tensors, read_text, read_toml
from crumb.methods.crumb import Crumb
from crumb.methods.finetune import Finetune
from crumb.methods.persistence import load, load_pretrained
from crumb.nets.config import NetworkConfig
from crumb.nets.weights import load_weights
from crumb.stream.checkpoint import Checkpoints
from crumb.stream.config import StreamConfig
from crumb.stream.results import Results, summarise
from fuzz import seeds

_REMEDY = "give another file"


@dataclass(frozen=True)
class Target:
    """A reader that is ready to read inputs.

    Attributes:
        read: writes the bytes to the place from which the reader reads, and reads them.
        seeds: good inputs, which ``read`` accepts.
        largest: bytes of the largest input worth trying.
    """

    read: Callable[[bytes], object]
    seeds: Sequence[bytes]
    largest: int = 4096

    def check(self, content: bytes) -> InputError | None:
        """Read ``content``. Returns its one-line error, if any, and raises all other errors."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                self.read(content)
            except InputError as error:
                refused = error
            else:
                return None
        assert len(str(refused).splitlines()) == 1, str(refused)
        return refused


def _of_file(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A reader of one file as a reader of its bytes."""

    def read_bytes(content: bytes) -> object:
        path.write_bytes(content)
        return read(path)

    return read_bytes


# Plain files.


def text(folder: Path) -> Target:
    """UTF-8 text."""
    return Target(_of_file(folder / "a.txt", lambda path: read_text(path, _REMEDY)), seeds.texts())


def json_file(folder: Path) -> Target:
    """A JSON object, which must be possible to write again."""

    def read(path: Path) -> None:
        json.dumps(read_json(path, _REMEDY), ensure_ascii=False).encode()

    return Target(_of_file(folder / "a.json", read), [seeds.dataset_json(), seeds.run_json()])


def toml(folder: Path) -> Target:
    """A TOML table."""
    return Target(
        _of_file(folder / "a.toml", lambda path: read_toml(path, _REMEDY)), [seeds.toml()]
    )


def tensors(folder: Path) -> Target:
    """A safetensors file."""
    read = _of_file(folder / "a.safetensors", lambda path: read_tensors(path, _REMEDY))
    return Target(read, seeds.tensor_files())


def _with_header(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A reader of the header alone, with its length before it and zeros after it."""

    def read_header(content: bytes) -> object:
        path.write_bytes(len(content).to_bytes(8, "little") + content + bytes(seeds.HEADER_DATA))
        return read(path)

    return read_header


def tensors_header(folder: Path) -> Target:
    """The header of a safetensors file."""
    read = _with_header(folder / "a.safetensors", lambda path: read_tensors(path, _REMEDY))
    return Target(read, seeds.headers())


# Data sets.


def index(folder: Path) -> Target:
    """An index file."""
    return Target(_of_file(folder / "index.csv", read_index), [seeds.INDEX])


def dataset(folder: Path) -> Target:
    """The record of a data set with a good index. Its strings must be possible to write."""
    (folder / "index.csv").write_bytes(seeds.INDEX)

    def read(path: Path) -> None:
        found = load_dataset(path.parent)
        str([found.name, found.images, *found.class_names.values()]).encode()

    return Target(_of_file(folder / "dataset.json", read), [seeds.dataset_json()])


def filelists(folder: Path) -> Target:
    """The lists of one run, separated by lines of two hyphens."""
    lists = folder / "lists" / "iid" / "run0" / "stream"
    lists.mkdir(parents=True)
    names = ("train_task_00_filelist.txt", "train_task_01_filelist.txt", "test_filelist.txt")
    for image in seeds.LISTED:
        (folder / image).parent.mkdir(exist_ok=True)
        (folder / image).touch()

    def read(content: bytes) -> object:
        parts = [*content.split(b"\n--\n", 2), b"", b""]
        for name, part in zip(names, parts, strict=False):
            (lists / name).write_bytes(part)
        return read_task_list(folder / "lists", "iid", 0, False, folder, None)

    return Target(read, [seeds.FILELISTS])


def folder_table(folder: Path) -> Target:
    """The table of a user's own files."""
    for image in seeds.LISTED:
        (folder / image).parent.mkdir(exist_ok=True)
        (folder / image).write_bytes(seeds.images()[0])
    read = _of_file(folder / "table.csv", lambda path: read_table(path, folder))
    return Target(read, [seeds.TABLE])


def shard(folder: Path) -> Target:
    """A tar file of images: its table, and its first image."""

    def read(path: Path) -> None:
        for name in islice(members(path), 3):
            open_image(path / name).close()

    return Target(_of_file(folder / "train-000.tar", read), [seeds.shard()], 8192)


def frames_record(folder: Path) -> Target:
    """The record of decoded clips, with a clip that it marks as done."""
    (folder / "clip.mp4").write_bytes(b"no clip")
    for number in (1, 2):
        (folder / f"clip_{number}.png").write_bytes(seeds.images()[0])
    clips = [ClipFile("clip.mp4", folder / "clip.mp4", folder / "clip")]
    read = _of_file(folder / "frames.json", lambda path: decode_clips(clips, path, workers=1))
    return Target(read, [seeds.FRAMES])


def image(folder: Path) -> Target:
    """An image. The limit of pixels is lowered, to try more images."""

    def read(path: Path) -> None:
        # Pillow's warnings about EXIF tags and large images say nothing about the pixels.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, 1 << 20
        try:
            load_image(path, 32)
        finally:
            Image.MAX_IMAGE_PIXELS = usual

    return Target(_of_file(folder / "image", read), seeds.images())


def video(folder: Path) -> Target:
    """A clip of a few seconds."""

    def read(path: Path) -> None:
        # More frames than a file of this size can hold.
        count = sum(1 for _ in islice(frames_at_one_per_second(path, 16), 1_000_000))
        assert count < 1_000_000, "frames without end"

    return Target(_of_file(folder / "clip", read), seeds.videos(folder), 16_384)


# Settings, runs, learners.


def preset(folder: Path) -> Target:
    """A preset, filled into the settings of a stream."""
    defaults = {
        "stream": StreamConfig(dataset=Path("set")),
        "network": NetworkConfig(),
        "method": Crumb.Config(),
    }

    def read(path: Path) -> None:
        Preset(str(path), read_preset(str(path))).fill(defaults)

    return Target(_of_file(folder / "preset.toml", read), seeds.presets())


def run_record(folder: Path) -> Target:
    """A finished run beside another one."""
    results = Results(folder, {})
    with results:
        (folder / "runs").mkdir()
        (folder / "runs" / "run1.json").write_bytes(seeds.run_json(1))

    def read(_: Path) -> None:
        records = results.finished()
        summarise(records)
        for record in records:
            sum(sum(record.curve(*key)) for key in records[0].scores[0][0].accuracy)

    return Target(_of_file(folder / "runs" / "run0.json", read), [seeds.run_json()])


def results_settings(folder: Path) -> Target:
    """The settings of a results folder to resume."""

    def read(path: Path) -> None:
        Results(path.parent, {"stream": {"runs": 1, "batch_size": 3}}, resume=True)

    return Target(_of_file(folder / "config.toml", read), [seeds.results_toml(folder)])


def learner(folder: Path) -> Target:
    """A learner file."""
    good = seeds.learner(folder, Finetune)
    return Target(_of_file(folder / "learner.safetensors", load), [good], len(good) + 512)


def _described(good: Path, path: Path) -> Callable[[bytes], Path]:
    """Write a good learner file with another description in its header."""
    with safe_open(good, "pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def write(content: bytes) -> Path:
        words = content.decode(errors="replace")
        path.write_bytes(save(kept, {"crumb-learner": words}))
        return path

    return write


def learner_description(folder: Path) -> Target:
    """The description in the header of a learner file."""
    good = folder / "good.safetensors"
    good.write_bytes(seeds.learner(folder, Crumb))
    write = _described(good, folder / "learner.safetensors")
    return Target(lambda content: load(write(content)), [seeds.description(good)])


def pretrained(folder: Path) -> Target:
    """A learner file from which another learner starts."""
    content = seeds.learner(folder, Crumb)
    new = seeds.new_learner(Crumb)
    read = _of_file(folder / "learner.safetensors", lambda path: load_pretrained(new, path))
    return Target(read, [content], len(content) + 512)


def pretrained_description(folder: Path) -> Target:
    """The description in the header of such a file."""
    good = folder / "good.safetensors"
    good.write_bytes(seeds.learner(folder, Crumb))
    write = _described(good, folder / "learner.safetensors")
    new = seeds.new_learner(Crumb)
    return Target(lambda content: load_pretrained(new, write(content)), [seeds.description(good)])


def rows(folder: Path) -> Target:
    """A file of cached rows: used if it is undamaged, else computed again, but never wrong."""
    key, row = bytes(range(16)), torch.arange(6, dtype=torch.float32)
    place = folder / "rows"

    def fill() -> Tensor:
        kept = DiskRows(place, {}, (6,), torch.float32, 1 << 20)
        with kept.filling([key]):
            if key not in kept:
                kept.add([key], row[None])
        return kept.read([key])[0][0]

    fill()
    (file,) = place.glob("*.safetensors")
    good = file.read_bytes()

    def read(content: bytes) -> None:
        for old in place.glob("*.safetensors"):
            old.unlink()
        (place / "foreign.safetensors").write_bytes(content)
        assert torch.equal(fill(), row)

    return Target(read, [good, *seeds.tensor_files()])


def checkpoint(folder: Path) -> Target:
    """A checkpoint: used if it is undamaged, else ignored."""
    good = seeds.checkpoint(folder / "good")
    learner = seeds.new_learner(Finetune)
    tasks = seeds.tasks()

    def read(path: Path) -> None:
        reader = Checkpoints(path.parent, tasks)
        # Every changed byte of a value must be detected.
        assert reader.restore(learner) is None or path.read_bytes()[-1000:] == good[-1000:]

    (folder / "bad").mkdir()
    return Target(
        _of_file(folder / "bad" / "run0_000000.safetensors", read), [good], len(good) + 512
    )


# Weights.


def _load_into_network(path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Linear(2, 2))
    load_weights(model, "timm", "tiny", str(path))


def weights_safetensors(folder: Path) -> Target:
    """Weights as safetensors."""
    read = _of_file(folder / "weights.safetensors", _load_into_network)
    return Target(read, [save(seeds.state())])


def weights_header(folder: Path) -> Target:
    """The header of such a file."""
    return Target(_with_header(folder / "a.safetensors", _load_into_network), seeds.headers())


def weights_pth(folder: Path) -> Target:
    """Weights written by torch.save in its present and its old format."""
    return Target(_of_file(folder / "weights.pth", _load_into_network), seeds.pth_files())


def weights_pickle(folder: Path) -> Target:
    """The pickle inside a file of torch.save."""
    good = zipfile.ZipFile(io.BytesIO(seeds.pth_files()[0]))
    name = next(name for name in good.namelist() if name.endswith("data.pkl"))

    def read(content: bytes) -> None:
        with zipfile.ZipFile(folder / "weights.pth", "w") as made:
            for other in good.namelist():
                made.writestr(other, content if other == name else good.read(other))
        _load_into_network(folder / "weights.pth")

    return Target(read, [good.read(name)])


TARGETS: dict[str, Callable[[Path], Target]] = {
    make.__name__: make
    for make in (
        text,
        json_file,
        toml,
        tensors,
        tensors_header,
        index,
        dataset,
        filelists,
        folder_table,
        shard,
        frames_record,
        image,
        video,
        preset,
        run_record,
        results_settings,
        learner,
        learner_description,
        pretrained,
        pretrained_description,
        rows,
        checkpoint,
        weights_safetensors,
        weights_header,
        weights_pth,
        weights_pickle,
    )
}
"""Functions that prepare each target in its own folder."""
