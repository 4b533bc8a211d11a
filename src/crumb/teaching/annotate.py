"""Draw a learner's answers into a clip."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import av.error
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from crumb.data.images import pil_to_tensor
from crumb.data.video import frames_at_one_per_second
from crumb.errors import InputError
from crumb.files import write_bytes
from crumb.methods.answers import Verdict, scores_of
from crumb.methods.base import Learner
from crumb.teaching.asking import answer_rows
from crumb.typefaces import own_typeface, runs

SIDE = 480
"""Pixels of the picture that is written."""
_REMEDY = "choose another file or free space"


def annotate(clip: Path, output: Path, learner: Learner, limits: Tensor | None) -> None:
    """Write one frame per second of a clip with the learner's answers, as H.264 in MP4.

    Args:
        clip: the clip to classify.
        output: the file, written whole or not at all.
        learner: the learner.
        limits: as in :func:`crumb.teaching.asking.verdict`.

    Raises:
        InputError: the clip cannot be read, or the file cannot be written.
    """
    import tempfile

    preprocessing = learner.network.preprocessing
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "annotated.mp4"
        try:
            with av.open(str(part), "w") as container:
                stream = container.add_stream("libx264", rate=Fraction(1))
                stream.width = stream.height = SIDE
                stream.pix_fmt = "yuv420p"
                large = frames_at_one_per_second(clip, SIDE, preprocessing.resize)
                # Resize the learner's input once, as in training.
                small = frames_at_one_per_second(clip, preprocessing.size, preprocessing.resize)
                for frame, shown in zip(large, small, strict=True):
                    scores = scores_of(learner, pil_to_tensor(shown, preprocessing.size)[None])
                    picture = draw(frame, answer_rows(learner, scores, limits, True)[0])
                    container.mux(stream.encode(av.VideoFrame.from_image(picture)))
                container.mux(stream.encode())
        except av.error.FFmpegError as error:
            reason = error.strerror or str(error)
            raise InputError(output, f"cannot be encoded ({reason})", _REMEDY) from error
        write_bytes(output, part.read_bytes(), _REMEDY)


def draw(frame: Image.Image, verdict: Verdict) -> Image.Image:
    """A frame with a line of text below it, on a dark bar."""
    picture = frame.copy()
    pen = ImageDraw.Draw(picture, "RGBA")
    size = max(12, picture.height // 20)
    sure = "" if verdict.probability is None else f"  {100 * verdict.probability:.0f} %"
    text = f"{verdict.name}{sure}"
    top = picture.height - 2 * picture.height // 15
    pen.rectangle((0, top, picture.width, picture.height), fill=(0, 0, 0, 170))
    place, line = picture.width / 40, top + picture.height // 40 + size
    for part, path in runs(text):
        font = ImageFont.truetype(path or own_typeface(), size)
        pen.text((place, line), part, "white", font, anchor="ls")
        place += font.getlength(part)
    return picture
