"""What users call on a learner: show it things, ask it, change its classes, save it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np

from crumb.data.names import canonical, class_name
from crumb.errors import InputError, shown
from crumb.methods import calls, saving

if TYPE_CHECKING:
    from crumb.methods.base import Learner

_BATCH = 21
_READ = ("name", "classes", "temperature", "reach")


class Teachable:
    """The calls of users, which every learner has.

    Wherever things are shown, they may be

    - images: Pillow images, uint8 arrays [H, W, 3] or tensors [3, H, W], one or several, or one
      array or tensor with a leading batch dimension;
    - the path of a clip or of an image: a clip gives one frame for each second;
    - a list of paths.

    What the program has set for torch (no gradients, another default dtype or device) changes
    nothing.

    Attributes:
        name: of the method.
        classes: names in the order in which they were met.
        temperature: what scores are divided by where they become probabilities.
        reach: of frames that were not learned from, by which "unknown" is told: their mean squared
            distance, as a multiple of that of learned ones, and its variance, as a share of the
            squared mean. None until it is measured.
    """

    name: ClassVar[str]
    classes: list[str]
    temperature: float
    reach: tuple[float, float] | None = None

    def observe(self, what: Any, labels: Any, batch_size: int = _BATCH) -> dict[str, float]:
        """Learn from labelled frames, each seen once; class names may be new at any time.

        Args:
            what: images, a path or paths.
            labels: a class name for each image or path (list, tuple, array), or one for all.
            batch_size: frames learned from in one step.

        Returns:
            the losses of the last step, by name; empty for methods without a loss.

        Raises:
            InputError: unusable images or files, another number of labels, an impossible batch
                size, a learner that needs task boundaries or trains on everything so far, or a
                loss that is no longer finite (which is noticed before it is learned from).
        """
        return calls.observe(_learner(self), what, labels, batch_size)

    def predict(self, what: Any, batch_size: int = 128, unknown_share: float | None = None) -> Any:
        """The most likely class.

        Args:
            what: images, a path or paths.
            batch_size: frames scored at a time; changes no result.
            unknown_share: answer "unknown" to what is farther from its class than all but this
                share of the class's own frames, e.g. 0.01; only with ``slda``.

        Returns:
            a name for each image or path, as a list; for one path the name itself. A clip is
            judged by the mean of its frames.

        Raises:
            InputError: unusable images or files, an impossible setting, or no class is known.
        """
        return calls.predict(_learner(self), what, batch_size, unknown_share)

    def predict_proba(self, what: Any, batch_size: int = 128) -> np.ndarray:
        """Probabilities, float64 [n, classes] in the order of :attr:`classes_`.

        They are softmax(scores / temperature); :meth:`calibrate` measures the temperature.

        Args:
            what: n images or paths, or one path.
            batch_size: frames scored at a time.

        Raises:
            InputError: as for :meth:`predict`.
        """
        return calls.predict_proba(_learner(self), what, batch_size)

    def top(self, what: Any, k: int = 3, batch_size: int = 128) -> list[list[tuple[str, float]]]:
        """The k most likely classes of each image or path, with their probabilities.

        Raises:
            InputError: as for :meth:`predict`, or k is below 1.
        """
        return calls.top(_learner(self), what, k, batch_size)

    def calibrate(self, what: Any, labels: Any, batch_size: int = 128) -> float:
        """Measure temperature and reach on things that the learner has not learned from.

        Args:
            what: images, a path or paths.
            labels: a class name for each, or one for all.
            batch_size: frames scored at a time.

        Returns:
            the temperature, which is kept.

        Raises:
            InputError: as for :meth:`predict`, or a label is of no class that has frames.
        """
        return calls.calibrate(_learner(self), what, labels, batch_size)

    def forget(self, name: str) -> None:
        """Take a class out; the others stay as they are.

        Raises:
            InputError: there is no such class, or the method cannot forget one.
        """
        raise self._unable_to_change_classes("forget a class")

    def merge(self, name: str, other: str) -> None:
        """Take two classes for one from now on, by the name of the first.

        Raises:
            InputError: there is no such class, they are the same, or the method cannot merge them.
        """
        raise self._unable_to_change_classes("merge classes")

    def _unable_to_change_classes(self, what: str) -> InputError:
        return InputError(f"a learner of {self.name}", f"cannot {what}", "use one of slda or ncm")

    def rename(self, name: str, new: str) -> None:
        """Call a class by another name.

        Raises:
            InputError: there is no such class, or another one has the new name.
        """
        label = self.label_of(name)
        if not isinstance(new, str) or not new:
            raise InputError("rename", f"{shown(new)} is no class name", "give a non-empty string")
        new = class_name(str(new), "rename to")
        if new in self.classes and self.classes.index(new) != label:
            problem = f"there is a class {new!r} already"
            raise InputError("rename", problem, "merge the two, or choose another name")
        self.classes[label] = new

    def label_of(self, name: str) -> int:
        """The label of a class.

        Raises:
            InputError: there is no such class.
        """
        if isinstance(name, str):
            for known in (name, canonical(name)):
                if known in self.classes:
                    return self.classes.index(known)
        names = ", ".join(self.classes) or "none"
        raise InputError(shown(name), "is no class of this learner", f"choose one of {names}")

    def save(self, path: str | Path) -> None:
        """Write everything to one file, from which ``crumb.load`` goes on learning to the bit.

        Raises:
            InputError: the file cannot be written, or ``path`` is none.
        """
        saving.save(_learner(self), path)

    # By the names of scikit-learn.

    @property
    def classes_(self) -> np.ndarray:
        """Names of the classes, in the order of the columns of :meth:`predict_proba`."""
        return np.array(self.classes, dtype=object)

    def partial_fit(self, X: Any, y: Any, classes: Sequence[str] | None = None) -> Self:
        """:meth:`observe`, as scikit-learn calls it.

        Args:
            X: images, a path or paths.
            y: a class name for each.
            classes: names to be met first, so that columns have their order.

        Raises:
            InputError: as for :meth:`observe`.
        """
        calls.observe(_learner(self), X, y, _BATCH, () if classes is None else classes)
        return self

    def __dir__(self) -> list[str]:
        """The calls of users, and what they may read."""
        return sorted(name for name in (*vars(Teachable), *_READ) if not name.startswith("_"))

    def __repr__(self) -> str:
        learner = _learner(self)
        held = learner.bytes_held()
        count = len(self.classes)
        seen = learner.frames_seen()
        frames = "" if seen is None else f", {seen:,} frames"
        return (
            f"<crumb {self.name}: {count} {'class' if count == 1 else 'classes'}{frames}, "
            f"{held.replay + held.extra:,} bytes beside {learner.network.config.backbone}>"
        )


def _learner(one: Teachable) -> Learner:
    return cast("Learner", one)
