"""A model that predicts and learns."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from crumb_lite.budget import Budget
from crumb_lite.classifiers import nearness, softmax, whitening
from crumb_lite.errors import InputError, require
from crumb_lite.folder import read_learner, read_state, write_state
from crumb_lite.front import Front
from crumb_lite.moments import Moments
from crumb_lite.pictures import frames_of, several
from crumb_lite.portable import BLOCKS, FRONT, agrees, as_lists, reference_images
from crumb_lite.sample import Sample

BATCH = 32
"""Frames learned in one step, as in ``crumb teach``."""


def load(folder: str | Path, threads: int = 0) -> Model:
    """Load a folder that ``crumb export`` wrote.

    Args:
        folder: its path.
        threads: threads of the network; 0 for one per core.

    Raises:
        InputError: a file is missing or damaged, the number of threads is negative, or the model
            gives other scores here than where it was written.
    """
    require("threads", threads, threads >= 0, "of at least 0")
    return Model(Path(folder), threads)


class Model:
    """A classifier of images and clips that learns one class at a time.

    Attributes:
        folder: the folder that it was loaded from.
        classes: class names; a label is an index into it.
        settings: settings of the method.
        directions: feature directions in use, float32 [D, d].
        moments: statistics of the features.
        sample: stored features; None if the model stores none.
        temperature: temperature of the probabilities.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder, self._about = folder, read_learner(folder)
        self._state = read_state(folder)
        self._front = Front(folder / FRONT, threads)
        self._take(self._state.tensors, self._state.about)
        size = self._about["size"]
        self._square = size, self._about["resize"], self._about["interpolation"]
        self._reference = self._front(reference_images(size))
        if not agrees(self._scores(self._reference), self._state.about["reference"]):
            problem = "gives other scores here than where it was written"
            raise InputError(folder, problem, "export the model again")

    def _take(self, tensors: dict[str, np.ndarray], about: dict[str, Any]) -> None:
        """Take over the tensors and the description of a state."""
        parts: dict[str, dict[str, np.ndarray]] = {"moments": {}, "crumbs": {}}
        for name, value in tensors.items():
            part, _, own = name.partition(".")
            if own:
                parts[part][own] = value
        self.classes: list[str] = list(about["classes"])
        self.temperature: float = about["temperature"]
        self.directions = tensors["directions"]
        self.moments = Moments(parts["moments"])
        self.sample = Sample(parts["crumbs"], tensors[BLOCKS]) if parts["crumbs"] else None
        self.settings: dict[str, Any] = self._about["config"]
        self._budget = Budget(self.settings, self.moments.triangle is not None)
        self._solved: tuple[np.ndarray | None, np.ndarray] | None = None

    @property
    def method(self) -> str:
        """``slda`` or ``ncm``."""
        return self._about["method"]

    # Predictions.

    def predict(self, what: Any) -> Any:
        """The most likely class.

        Args:
            what: path of a clip or an image, Pillow image or array, uint8 [H, W, 3]; or a list of
                these.

        Returns:
            its name; a list of names for a list.

        Raises:
            InputError: an input cannot be read, or no class is known.
        """
        found = [self.classes[row.argmax()] for row in self.scores(what)]
        return found if isinstance(what, (list, tuple)) else found[0]

    def probabilities(self, what: Any) -> np.ndarray:
        """Probabilities, float64 [n, classes], of n inputs; a clip counts as one.

        Raises:
            InputError: as :meth:`predict`.
        """
        return softmax(self.scores(what), self.temperature)

    def scores(self, what: Any) -> np.ndarray:
        """Scores, float64 [n, classes]; of a clip the mean over its frames.

        Raises:
            InputError: as :meth:`predict`.
        """
        if not self.moments.counts.any():
            raise InputError("predict", "no class is known", "teach the model a class")
        pictures = (frames_of(one, self._square) for one in several(what))
        found = [self._scores(self._front(one)).astype(np.float64).mean(0) for one in pictures]
        return np.stack(found)

    def _scores(self, features: np.ndarray) -> np.ndarray:
        """Scores of features, float32 [n, D] to [n, classes]."""
        return self._nearness(self._vectors(features))

    def _vectors(self, features: np.ndarray) -> np.ndarray:
        """Features in the directions of the model, float32 [n, d]."""
        if self.settings["transform"] == "sqrt":
            features = np.sign(features) * np.sqrt(np.abs(features))
        return features @ self.directions

    def _nearness(self, vectors: np.ndarray) -> np.ndarray:
        if self._solved is None:
            whitener, means = None, self.moments.mean_vectors()
            if self.moments.triangle is not None:
                whitener = whitening(self.moments, self.settings)
                means = means @ whitener
            self._solved = whitener, means
        whitener, means = self._solved
        vectors = vectors if whitener is None else vectors @ whitener
        return nearness(vectors, means, self.moments.counts)

    def self_test(self) -> dict[str, float | None]:
        """Accuracy in percent on the stored features of each class; None without any."""
        found: dict[str, float | None] = dict.fromkeys(self.classes)
        if self.sample is None or not self.sample.each:
            return found
        vectors, labels = self.sample.vectors()
        right = self._nearness(vectors * np.float32(self.moments.scale)).argmax(1) == labels
        for label in np.unique(labels):
            found[self.classes[label]] = 100 * float(right[labels == label].mean())
        return found

    # Lessons.

    def observe(self, what: Any, name: str) -> int:
        """Learn frames of one class, which may be new. :meth:`save` writes it to the folder.

        Args:
            what: as for :meth:`predict`; all of the same class.
            name: name of the class.

        Returns:
            number of frames.

        Raises:
            InputError: an input cannot be read, the name cannot be used, or the budget does not
                hold another class. Nothing is learned in that case.
        """
        name = _class_name(name)
        pictures = np.concatenate([frames_of(one, self._square) for one in several(what)])
        features = self._front(pictures)
        label = self._label(name)
        for start in range(0, len(features), BATCH):
            self._learn(self._vectors(features[start : start + BATCH]), label)
        return len(features)

    def _learn(self, vectors: np.ndarray, label: int) -> None:
        """Merge a batch of one class, [B, d], into the statistics, and store some of it."""
        seen = int(self.moments.counts[label])
        labels = np.full(len(vectors), label)
        rounding, drawn, _ = self._draws()
        self.moments.add(vectors, labels, rounding)
        if self.sample is not None and self.sample.each:
            self.sample.refer(*self.moments.overall())
            self.sample.offer(vectors / np.float32(self.moments.scale), label, seen, drawn)
        self._solved = None

    def _draws(self) -> Iterator[np.random.Generator]:
        """Generators of the rounding, of the sample, and of what a smaller sample keeps.

        They follow from the seed and the number of frames, so no state of theirs is stored.
        """
        start = [self._about["seed"], self.moments.frames]
        return (np.random.default_rng([*start, purpose]) for purpose in range(3))

    def _label(self, name: str) -> int:
        """The label of a class. A new class gets room, for which directions may be dropped."""
        if name not in self.classes:
            classes = len(self.classes) + 1
            dimensions = self._budget.directions(classes, self.directions.shape[1])
            self._drop(dimensions)
            self.moments.make_room(classes)
            if self.sample is not None:
                each = min(self.sample.each, self._budget.vectors(classes, dimensions))
                _, _, drawn = self._draws()
                self.sample.make_room(classes, each, drawn)
            self.classes.append(name)
        return self.classes.index(name)

    def _drop(self, dimensions: int) -> None:
        """Keep the leading directions."""
        if dimensions < self.directions.shape[1]:
            self.directions = self.directions[:, :dimensions]
            self.moments.drop(dimensions)
            if self.sample is not None:
                self.sample.drop(dimensions)

    def forget(self, name: str) -> None:
        """Remove a class. The shared covariance keeps its frames.

        Raises:
            InputError: there is no such class, or the name is no string.
        """
        name = canonical(name)
        if name not in self.classes:
            known = ", ".join(self.classes) or "none"
            raise InputError(repr(name), "is not a class of this model", f"choose one of {known}")
        label = self.classes.index(name)
        self.moments.forget(label)
        if self.sample is not None:
            self.sample.forget(label)
        del self.classes[label]
        self._solved = None

    def save(self) -> None:
        """Write the lessons to the folder: whole or not at all.

        Raises:
            InputError: the folder cannot be written, or another process has changed it.
        """
        tensors = {"directions": self.directions}
        tensors |= {f"moments.{name}": value for name, value in self.moments.state().items()}
        if self.sample is not None:
            tensors |= {f"crumbs.{name}": value for name, value in self.sample.state().items()}
            tensors[BLOCKS] = self.sample.blocks
        changed = {"classes": self.classes, "temperature": self.temperature}
        changed["reference"] = as_lists(self._scores(self._reference))
        about = self._state.about | changed
        self._state = write_state(self.folder, tensors, about, self._state)


def canonical(name: str) -> str:
    """The composed form (NFC) of a name, which macOS writes decomposed.

    Raises:
        InputError: it is no string.
    """
    if not isinstance(name, str):
        raise InputError(f"the class {name!r}", "has no usable name", "give it a string")
    return unicodedata.normalize("NFC", name)


def _class_name(name: str) -> str:
    name = canonical(name)
    if not name.strip() or name != name.strip() or not name.isprintable() or name == "unknown":
        raise InputError(f"the class {name!r}", "has no usable name", "give it another name")
    return name
