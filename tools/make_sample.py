"""Make the sample of real clips that ships inside the package from a larger folder of them.

    python tools/make_sample.py SOURCE OUTPUT

SOURCE is a folder in Toybox's layout with clips named class_NN_pivothead, LICENSES.txt beside it.
OUTPUT gets clips/ (the chosen objects, renumbered from 01, one frame a second) and LICENSES.txt.
"""

from __future__ import annotations

import argparse
import io
import sys
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError
from av.video.frame import PictureType
from tqdm import tqdm

from crumb.errors import InputError
from crumb.files import read_text, write_bytes, write_csv, write_text

# Chosen by eye: known at a glance from most sides, and unlike each other.
OBJECTS = {
    "chair": ("households", (2, 5, 6)),
    "bed": ("households", (2, 4, 5)),
    "lamp": ("households", (1, 2, 4)),
    "plant": ("households", (1, 2, 5)),
    "bottle": ("households", (2, 3, 4)),
    "person": ("animals", (1, 2, 4)),
    "animal": ("animals", (2, 4, 6)),
    "car": ("vehicles", (1, 5, 6)),
}
ROTATIONS = [f"r{axis}{sign}" for sign in ("plus", "minus") for axis in "xyz"]
SESSIONS = [*ROTATIONS, "tx", "ty", "tz", "hodgepodge"]
SECONDS = 16
LIMIT = 7_500_000
LICENCE_NOTE = """\
CHANGES MADE FOR THIS SAMPLE: some of the objects were picked and numbered anew; of each clip one
frame a second was kept and encoded again (H.264, smaller).
Licence texts: CC BY 3.0     https://creativecommons.org/licenses/by/3.0/
               CC BY 3.0 US  https://creativecommons.org/licenses/by/3.0/us/
               CC0           https://creativecommons.org/publicdomain/zero/1.0/
"""


def frames_each_second(path: Path) -> list[av.VideoFrame]:
    """The frames shown at 0, 1, ... ``SECONDS`` - 1 s.

    Raises:
        InputError: the clip is missing, broken, or has no frame at one of these times.
    """
    try:
        with av.open(path) as container:
            shown = {frame.time: frame for frame in container.decode(video=0)}
    except (OSError, IndexError, FFmpegError) as error:
        raise InputError(path, f"cannot be decoded ({error})", "give the whole folder") from error
    if missing := [second for second in range(SECONDS) if second not in shown]:
        raise InputError(path, f"has no frame at {missing[0]} s", "give clips without gaps")
    return [shown[second] for second in range(SECONDS)]


def encode(frames: list[av.VideoFrame], crf: float) -> bytes:
    """An MP4 file that shows each frame for one second."""
    file = io.BytesIO()
    # One thread: with more, the bytes depend on the machine.
    options = {"crf": str(crf), "preset": "veryslow", "threads": "1"}
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=1, options=options)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        for second, frame in enumerate(frames):
            frame.pts, frame.time_base = second, Fraction(1)
            # Otherwise the source's key frames would be forced upon the new clip.
            frame.pict_type = PictureType.NONE
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def licences(path: Path) -> str:
    """The source's licence file, cut down to the chosen objects under their new numbers.

    The objects pasted into backgrounds stay listed in full: which clip shows which is not recorded.

    Raises:
        InputError: an object is not listed, or its licence is in doubt.
    """
    text = read_text(path, "keep the licence file beside the clips")
    header, _, rest = text.partition("== devset ==\n")
    lines = dict(line.split(" | ", 1) for line in rest.splitlines() if " | " in line)
    doubtful = rest.partition("== where the catalogue")[2]
    chosen = []
    for name, (_, numbers) in OBJECTS.items():
        for new, old in enumerate(numbers, start=1):
            key = f"{name}_{old:02d}"
            if key not in lines or key in doubtful:
                raise InputError(path, f"gives no clear licence for {key}", "choose another object")
            chosen.append(f"{name}_{new:02d} | {lines[key]}")
    pasted = [line for line in rest.splitlines() if line.startswith("clutter | ")]
    header = header.replace("used in devset/ and heldout/", "seen in these clips")
    upstream, _, form = header.rstrip().partition("\n\n")
    parts = [upstream, LICENCE_NOTE, form, "", "== objects ==", *chosen, ""]
    return "\n".join([*parts, "== small objects pasted into some backgrounds ==", *pasted, ""])


def make(source: Path, output: Path, crf: float) -> int:
    """Write the sample; returns the bytes of its clips.

    Raises:
        InputError: the source cannot be used, the output has clips already, or they are too big.
    """
    if (output / "clips").exists():
        raise InputError(output / "clips", "exists", "remove it first")
    attribution = licences(source.parent / "LICENSES.txt")
    clips: dict[Path, bytes] = {}
    for name, (category, numbers) in tqdm(OBJECTS.items(), disable=None):
        for new, old in enumerate(numbers, start=1):
            before, after = f"{name}_{old:02d}_pivothead", f"{name}_{new:02d}_pivothead"
            for session in SESSIONS:
                frames = frames_each_second(source / category / before / f"{before}_{session}.mp4")
                clip = Path(category, after, f"{after}_{session}.mp4")
                clips[clip] = encode(frames, crf)
    total = sum(map(len, clips.values()))
    if total > LIMIT:
        raise InputError("--crf", f"makes {total} bytes, over {LIMIT}", "raise it")
    for clip, content in clips.items():
        write_bytes(output / "clips" / clip, content)
    classes = [(name, index) for index, name in enumerate(OBJECTS, start=1)]
    write_csv(output / "clips" / "toybox_classes.csv", classes, header=("class", "index"))
    write_text(output / "LICENSES.txt", attribution)
    return total


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", type=Path, help="folder of clips, LICENSES.txt beside it")
    parser.add_argument("output", type=Path, help="folder to make clips/ and LICENSES.txt in")
    parser.add_argument("--crf", type=float, default=25.5, help="higher is smaller")
    arguments = parser.parse_args()
    try:
        total = make(arguments.source, arguments.output, arguments.crf)
    except InputError as error:
        parser.error(error.in_flags())
    sys.stdout.write(f"{total} bytes\n")


if __name__ == "__main__":
    main()
