"""Good inputs to start from, made by code."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from crumb.cli.parsing import preset_names
from crumb.data.decode import DECODING
from crumb.data.protocol import Frames, TaskList
from crumb.methods.base import Learner
from crumb.methods.finetune import Finetune
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig
from crumb.stream.checkpoint import Checkpoints, State
from crumb.stream.record import PATHS, TESTS, RunRecord, Score, record_to_json
from crumb.stream.results import FORMAT, VERSION, Results

INDEX = (
    b",class,object,session,im_num,im_path\n"
    b"0,0,1,1,1,bed/bed_1.png\n"
    b"1,0,1,3,1,bed/bed_2.png\n"
    b'2,1,1,1,1,"car/car_1.png"\n'
)
HEADER_DATA = 128
"""Bytes of all tensors in the files of :func:`headers`."""
LISTED = ("bed/bed_1.png", "car/car_1.png", "bed/bed_2.png")
FILELISTS = b"bed/bed_1.png 0\n--\ncar/car_1.png 1\n--\nbed/bed_2.png 0\ncar/car_1.png 1\n"
TABLE = (
    b"path,class,object,session,frame,split\n"
    b"bed/bed_1.png,bed,1,morning,1,train\n"
    b'bed/bed_2.png,bed,1,"even, ing",2,test\n'
    b"car/car_1.png,car,,,,train\n"
)
_CLIP = {"bytes": 7, "frames": 2, "gaps": 0, "decoding": DECODING, "resize": "squash"}
FRAMES = json.dumps({"format": "crumb-frames", "version": 1, "clips": {"clip.mp4": _CLIP}}).encode()


def texts() -> list[bytes]:
    """Plain files, files with a byte order mark and CRLF, and files with multi-byte characters."""
    return [b"one\ntwo\n", b"\xef\xbb\xbfone\r\ntwo\r\n", "zażółć 😀\n".encode()]


def dataset_json() -> bytes:
    """The record of a data set whose index is ``index.csv``."""
    record = {
        "format": "crumb-dataset",
        "version": 1,
        "name": "mini",
        "index": "index.csv",
        "images": "images",
        "test_sessions": [3],
        "classes": {"bed": 0, "car": 1},
    }
    return json.dumps(record).encode()


def toml() -> bytes:
    """Every kind of value."""
    return (
        b'# comment\nname = "x"\n[part]\nnumber = 1\nhex = 0xff\nreal = 1.5e3\nyes = true\n'
        b"list = [1, 2]\ntable = {a = 1}\nday = 1979-05-27T07:32:00Z\n[[many]]\nx = '''y'''\n"
    )


def presets() -> list[bytes]:
    """Two presets of the package, and one with many more keys."""
    import crumb

    folder = Path(crumb.__path__[0]) / "presets"
    chosen = [name for name in preset_names() if name.startswith("core50/")][:2]
    rich = (
        b"[stream]\nmethod = 'crumb'\nprotocol = 'iid'\nruns = 2\nclasses = ['a']\n"
        b"filelists = 'lists'\n[stream.layout]\nclasses_per_task = 2\n"
        b"[stream.evaluation]\ntop_k = [1, 5]\nvalidation_share = 0.1\n"
        b"[stream.machine]\nworkers = 1\nprecision = 'full'\n"
        b"[network]\nbackbone = 'squeezenet1_0'\ndropout = 0.5\n[method]\nlr = 0.01\nblocks = 16\n"
    )
    return [*((folder / f"{name}.toml").read_bytes() for name in chosen), rich]


def shard() -> bytes:
    """A tar file of two images."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in (("n01/a.JPEG", images()[0]), ("n02/b.JPEG", images()[0])):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def run_json(number: int = 0) -> bytes:
    """A finished run of two tasks, with statistics."""

    def score(*by_task: float) -> Score:
        return Score({(1, test, path): 50.0 for test in TESTS for path in PATHS}, [*by_task])

    record = RunRecord(
        number,
        ["bed", "car"],
        [[score(50.0), score(60.0)], [score(40.0, 70.0)]],
        [1, 0],
        [{"usage": 0.5}],
        1000,
        10,
        2.5,
        40,
        1 << 20,
        0.5,
        0.25,
    )
    return json.dumps({"format": FORMAT, "version": VERSION, **record_to_json(record)}).encode()


def results_toml(folder: Path) -> bytes:
    """The settings with which a results folder is opened."""
    results = Results(folder / "made", {"stream": {"runs": 1, "batch_size": 3}})
    results.__enter__()
    return (folder / "made" / "config.toml").read_bytes()


def state() -> dict[str, Tensor]:
    """A state dict of a network with two layers."""
    return {
        "0.weight": torch.ones(2, 3, 1, 1),
        "0.bias": torch.zeros(2),
        "1.weight": torch.ones(2, 2),
        "1.bias": torch.zeros(2),
    }


def tensor_files() -> list[bytes]:
    """Files with several dtypes, with metadata, and with an empty tensor."""
    several = {
        "half": torch.ones(2, dtype=torch.float16),
        "brain": torch.ones(1, dtype=torch.bfloat16),
        "yes": torch.ones(3, dtype=torch.bool),
        "none": torch.ones(0, 4),
    }
    return [save(state(), {"note": "text"}), save(several)]


def headers() -> list[bytes]:
    """Headers for the tensors of :func:`state` and padding, one for each dtype."""
    made = []
    for kind, size in (("F32", 4), ("F16", 2), ("C64", 8), ("F8_E5M2", 1), ("F4", 0.5), ("I64", 8)):
        header: dict[str, object] = {"__metadata__": {"note": "text"}}
        end = 0
        for name, tensor in state().items():
            start, end = end, end + int(tensor.numel() * size)
            shape = [*tensor.shape]
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
        rest = {"dtype": "U8", "shape": [HEADER_DATA - end], "data_offsets": [end, HEADER_DATA]}
        header["rest"] = rest
        made.append(json.dumps(header).encode())
    return made


def pth_files() -> list[bytes]:
    """State dicts in a zip file, as a sequence of pickles, and under a key of a checkpoint."""
    files = []
    for value, zipped in ((state(), True), (state(), False), ({"state_dict": state()}, True)):
        file = io.BytesIO()
        torch.save(value, file, _use_new_zipfile_serialization=zipped)
        files.append(file.getvalue())
    return files


@cache
def images() -> list[bytes]:
    """Small images of the usual formats and modes."""
    pixels = np.arange(20 * 16 * 3, dtype=np.uint16).reshape(20, 16, 3).astype(np.uint8)
    colour = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = colour.quantize(8)
    deep = Image.fromarray(np.arange(320, dtype=np.uint16).reshape(20, 16) * 200)
    made = [
        (colour, "PNG", {}),
        (colour, "PNG", {"exif": exif}),
        (palette, "PNG", {"transparency": bytes(range(8))}),
        (deep, "PNG", {}),
        (colour.convert("LA"), "PNG", {}),
        (colour, "JPEG", {"exif": exif}),
        (colour.convert("CMYK"), "JPEG", {}),
        (palette, "GIF", {"transparency": 0}),
        (colour, "BMP", {}),
        (colour, "TIFF", {"compression": "tiff_lzw"}),
        (deep, "TIFF", {}),
        (colour, "WEBP", {"exif": exif}),
        (colour, "PPM", {}),
    ]
    files = []
    for image, kind, options in made:
        file = io.BytesIO()
        image.save(file, kind, **options)
        files.append(file.getvalue())
    return files


def videos(folder: Path) -> list[bytes]:
    """Three grey frames in three seconds, in several containers."""
    return [
        video(folder / f"seed.{kind}", codec, range(3))
        for kind, codec in (("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4"))
    ]


def video(path: Path, codec: str, times: Sequence[int]) -> bytes:
    """Grey frames at these seconds, in the container of the name's suffix."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.thread_count = 1
        for number, time in enumerate(times):
            grey = np.full((32, 32, 3), 60 * number, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()


def new_learner(kind: type[Learner]) -> Learner:
    """A learner with a tiny network that has learned nothing."""
    network = build_network(NetworkConfig("test_efficientnet", "blocks.4", "random"))
    settings = {"blocks": 4, "block_length": 16} if kind.name == "crumb" else {}
    return kind(network, kind.Config(**settings))


def learner(folder: Path, kind: type[Learner]) -> bytes:
    """A saved learner that has learned two classes."""
    made = new_learner(kind)
    made.add_classes(["bed", "car"])
    made.save(folder / "seed.safetensors")
    return (folder / "seed.safetensors").read_bytes()


def tasks() -> TaskList:
    """Two tasks of two images each, and their test images."""
    frames = [Frames((f"{n}/a.png", f"{n}/b.png"), np.array([n, n])) for n in (0, 1)]
    return TaskList("iid", 0, False, tuple(frames), frames[0], ("bed", "car"))


def checkpoint(folder: Path) -> bytes:
    """A learner that has learned nothing, in the middle of its first task."""
    writer = Checkpoints(folder, tasks())
    writer.save(new_learner(Finetune), State(RunRecord(0, ["bed", "car"], images=2), batch=1))
    (path,) = folder.glob("*.safetensors")
    return path.read_bytes()


def description(path: Path) -> bytes:
    """The metadata in the header of a learner file."""
    with safe_open(path, "pt") as file:
        return file.metadata()["crumb-learner"].encode()
