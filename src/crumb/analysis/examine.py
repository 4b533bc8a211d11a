"""Pass test images through saved learners and collect the data of all analyses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crumb.analysis.block_images import BlockImage, uses_of
from crumb.analysis.learners import (
    SavedRun,
    TestImages,
    codebook_of,
    open_learner,
    stored_codes,
)
from crumb.analysis.maps import Shown, energy
from crumb.analysis.perturbations import PERTURBATIONS, perturbed_accuracy
from crumb.analysis.reconstruction import (
    TaskSnapshots,
    cosines,
    relative_errors,
    stored_since,
)
from crumb.analysis.usage import BlockCounts, count_blocks
from crumb.codebook.codebook import Codebook
from crumb.data.images import load_images
from crumb.data.protocol import Frames
from crumb.data.spacing import evenly
from crumb.methods.base import Learner
from crumb.progress import bar
from crumb.stream.feed import Reading


@dataclass(frozen=True)
class Change:
    """Changes by tuning the codebook.

    Attributes:
        before: usage counts of the blocks of the earlier codebook.
        indices: share of those that are of another block now.
        blocks: ||blocks - earlier blocks||^2 / ||earlier blocks||^2.
    """

    before: BlockCounts
    indices: float
    blocks: float


@dataclass(frozen=True)
class Codes:
    """Codebook statistics of a learner on its test images.

    Attributes:
        used: usage counts of the blocks.
        error: relative squared error of the reconstruction, mean over the images.
        cosine: cosine of the angle between map and reconstruction, mean over the images.
        change: since an earlier codebook, if one was given.
    """

    used: BlockCounts
    error: float
    cosine: float
    change: Change | None = None


def read_codes(learner: Learner, reading: Reading, earlier: Codebook | None = None) -> Codes:
    """Encode and rebuild every image of a reading.

    Args:
        learner: with a codebook.
        reading: batches of test images.
        earlier: codebook of the same size, to compare with.
    """
    own = codebook_of(learner)
    assert own is not None
    blocks, length = own.blocks.shape
    shape = (own.feature_shape[0] // length, blocks, len(learner.classes))
    counts = [np.zeros(shape, np.int64) for _ in (own, earlier)]
    errors, angles, changed, indices = [], [], 0, 0
    with learner.evaluation():
        for batch in bar(reading, "codes", "batch"):
            labels, codes = batch.labels.numpy(), own.encode(batch.features)
            counts[0] += count_blocks(codes, labels, *shape)
            rebuilt = own.decode(codes)
            errors.append(relative_errors(batch.features, rebuilt))
            angles.append(cosines(batch.features, rebuilt))
            if earlier is not None:
                others = earlier.encode(batch.features)
                counts[1] += count_blocks(others, labels, *shape)
                changed += int((codes.int() != others.int()).sum())
                indices += codes.numel()
    # A map of zeros has neither.
    error, cosine = (float(np.nanmean(np.concatenate(parts))) for parts in (errors, angles))
    used = BlockCounts(counts[0], learner.classes)
    if earlier is None:
        return Codes(used, error, cosine)
    then, now = earlier.blocks.detach().double(), own.blocks.detach().double()
    moved = float((now - then).square().sum() / then.square().sum())
    change = Change(BlockCounts(counts[1], learner.classes), changed / indices, moved)
    return Codes(used, error, cosine, change)


def snapshots(saved: SavedRun, images: TestImages, device: str) -> TaskSnapshots | None:
    """History of the learner after each task; None for learners without a codebook.

    Raises:
        InputError: a learner or an image cannot be read.
    """
    found, before = TaskSnapshots(), dict[str, np.ndarray]()
    for task, path in saved.tasks.items():
        learner = open_learner(path, device)
        codebook = codebook_of(learner)
        if codebook is None:
            return None
        held = stored_codes(learner)
        found.tasks.append(task)
        found.errors.append(read_codes(learner, images.reading(learner)).error)
        found.blocks.append(codebook.blocks.detach().cpu().numpy().copy())
        found.stored.append(stored_since(held, before))
        before = held
    return found


def accuracies(
    learner: Learner, images: TestImages, stylised: TestImages | None
) -> Mapping[str, float]:
    """Accuracy in percent under each perturbation, and on stylised pictures if there are any."""
    found = perturbed_accuracy(learner, images.reading(learner), PERTURBATIONS)
    if stylised is not None:
        found["style"] = perturbed_accuracy(learner, stylised.reading(learner), ())["none"]
    return found


def sample_frames(frames: Frames, count: int) -> Frames:
    """At most this many frames, evenly spaced."""
    chosen = evenly(len(frames.paths), count)
    return Frames(tuple(frames.paths[index] for index in chosen), frames.labels[chosen])


def flat_maps(learner: Learner, reading: Reading) -> tuple[np.ndarray, np.ndarray]:
    """Feature maps and their reconstructions, float32 [n, C H W] each."""
    own = codebook_of(learner)
    assert own is not None
    with learner.evaluation():
        pairs = [(batch.features, own(batch.features)) for batch in reading]
    maps, rebuilt = (
        np.concatenate([pair[which].flatten(1).cpu().numpy() for pair in pairs]) for which in (0, 1)
    )
    return maps, rebuilt


def block_images(
    learner: Learner, reading: Reading, images: Path, blocks: Sequence[int], count: int
) -> list[list[BlockImage]]:
    """The images that choose each block most often, most often first.

    Args:
        learner: with a codebook.
        reading: batches of test images.
        images: root folder of their paths.
        blocks: blocks by number; those that are never chosen are left out.
        count: count of images of a block, at most.
    """
    own = codebook_of(learner)
    assert own is not None
    _, *shape = own.feature_shape
    parts: list[list[np.ndarray]] = [[] for _ in blocks]
    with learner.evaluation():
        for batch in reading:
            codes = own.encode(batch.features)
            for found, block in zip(parts, blocks, strict=True):
                found.append(uses_of(codes, block, (shape[0], shape[1])))
    frames = reading.frames
    chosen = []
    for block, found in zip(blocks, parts, strict=True):
        uses = np.concatenate(found)
        totals = uses.sum((1, 2))
        places = [int(place) for place in np.argsort(-totals, kind="stable")[:count]]
        places = [place for place in places if totals[place]]
        paths = [frames.paths[place] for place in places]
        pixels = _pictures(learner, images, paths) if paths else []
        names = [learner.classes[frames.labels[place]] for place in places]
        chosen.append(
            [
                BlockImage(block, *parts_of)
                for parts_of in zip(names, paths, pixels, uses[places], strict=True)
            ]
        )
    return [images_of for images_of in chosen if images_of]


def _pictures(learner: Learner, images: Path, paths: Sequence[str]) -> np.ndarray:
    """Images as the learner sees them, uint8 [n, size, size, 3]."""
    square = learner.network.preprocessing.square
    return load_images(images, paths, *square).permute(0, 2, 3, 1).numpy()


def shown(learner: Learner, reading: Reading, images: Path) -> list[Shown]:
    """The images of a reading with the energies of their maps."""
    own = codebook_of(learner)
    assert own is not None
    found = []
    with learner.evaluation():
        for number, batch in enumerate(reading):
            rebuilt = own(batch.features)
            apart = batch.features - rebuilt
            energies = zip(*map(energy, (batch.features, rebuilt, apart)), strict=True)
            paths = reading.paths(number)
            pixels = _pictures(learner, images, paths)
            for path, label, image, maps in zip(
                paths, batch.labels.tolist(), pixels, energies, strict=True
            ):
                name = learner.classes[label]
                found.append(Shown(name, path, image, *maps))
    return found
