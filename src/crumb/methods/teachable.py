"""The user-facing methods of a learner: observe, predict, change classes, save."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np

from crumb.data.names import canonical, class_name
from crumb.errors import InputError, shown
from crumb.kinds import given
from crumb.methods import calls, saving

if TYPE_CHECKING:
    from crumb.methods.base import Learner

_BATCH = 21
_READ = ("name", "classes", "temperature", "reach")


class Teachable:
    """The user-facing methods of every learner.

    Inputs may be

    - images: Pillow images, uint8 arrays [H, W, 3] or tensors [3, H, W], one or several, or one
      array or tensor with a leading batch dimension;
    - the path of a clip or of an image: a clip gives one frame for each second;
    - a list of paths.

    The caller's torch settings (no gradients, another default dtype or device) have no effect.

    Attributes:
        name: name of the method.
        classes: class names in the order of first appearance.
        temperature: temperature of the probabilities.
        reach: distances of held-out frames, for the answer "unknown": their mean squared distance
            as a multiple of that of training frames, and its variance as a share of the squared
            mean. None until measured.
    """

    name: ClassVar[str]
    classes: list[str]
    temperature: float
    reach: tuple[float, float] | None = None

    def observe(self, what: Any, labels: Any, batch_size: int = _BATCH) -> dict[str, float]:
        """Learn from labelled frames in a single pass. New classes may appear at any time.

        Args:
            what: images, a path or paths.
            labels: a class name for each image or path (list, tuple, array), or one for all.
            batch_size: frames learned from in one step.

        Returns:
            the losses of the last step, by name; empty for methods without a loss.

        Raises:
            InputError: images or files are unusable, the number of labels or the batch size is
                wrong, the learner needs task boundaries or all data so far, or the loss is not
                finite (checked before the step).
        """
        return calls.observe(_learner(self), what, labels, batch_size)

    def predict(self, what: Any, batch_size: int = 128, unknown_share: float | None = None) -> Any:
        """The most likely class.

        Args:
            what: images, a path or paths.
            batch_size: frames scored at a time; changes no result.
            unknown_share: answer "unknown" for inputs farther from their class than all but this
                share of the class's own frames, e.g. 0.01; only with ``slda``.

        Returns:
            a list with a name for each image or path; for a single path the name itself. A clip is
                scored by the mean of its frames.

        Raises:
            InputError: images or files are unusable, a setting is invalid, or no class is known.
        """
        return calls.predict(_learner(self), what, batch_size, unknown_share)

    def predict_proba(self, what: Any, batch_size: int = 128) -> np.ndarray:
        """Probabilities, float64 [n, classes] in the order of :attr:`classes_`.

        Computed as softmax(scores / temperature); :meth:`calibrate` fits the temperature.

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
        """Fit temperature and reach on inputs that the learner has not learned from.

        Args:
            what: images, a path or paths.
            labels: a class name for each, or one for all.
            batch_size: frames scored at a time.

        Returns:
            the new temperature.

        Raises:
            InputError: as for :meth:`predict`, or the class of a label has no frames.
        """
        return calls.calibrate(_learner(self), what, labels, batch_size)

    def forget(self, name: str) -> None:
        """Remove a class and leave the other classes unchanged.

        Raises:
            InputError: there is no such class, or the method cannot forget one.
        """
        raise self._unable_to_change_classes("forget a class")

    def merge(self, name: str, other: str) -> None:
        """Merge two classes under the name of the first.

        Raises:
            InputError: there is no such class, they are the same, or the method cannot merge them.
        """
        raise self._unable_to_change_classes("merge classes")

    def _unable_to_change_classes(self, what: str) -> InputError:
        return InputError(f"a learner of {self.name}", f"cannot {what}", "use one of slda or ncm")

    def rename(self, name: str, new: str) -> None:
        """Rename a class.

        Raises:
            InputError: there is no such class, or another one has the new name.
        """
        label = self.label_of(name)
        if not isinstance(new, str) or not new:
            raise InputError(
                "rename", f"{shown(new)} is not a class name", "give a non-empty string"
            )
        new = class_name(str(new), "rename to")
        if new in self.classes and self.classes.index(new) != label:
            problem = f"a class {new!r} already exists"
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
        raise InputError(shown(name), "is not a class of this learner", f"choose one of {names}")

    def save(self, path: str | Path) -> None:
        """Save the learner to one file. ``crumb.load`` restores it bit for bit.

        Raises:
            InputError: the file cannot be written, or ``path`` is invalid.
        """
        saving.save(_learner(self), path)

    def export(self, folder: str | Path) -> None:
        """Write a folder that the package crumb-lite runs without PyTorch (docs/device.md).

        Raises:
            InputError: the method is neither ``slda`` nor ``ncm``, the learner is on a GPU or knows
                no class, the network cannot be exported, or the folder exists or cannot be written.
        """
        from crumb.methods.exporting import export

        export(_learner(self), given("folder", folder, Path), "this learner")

    # Names of scikit-learn.

    @property
    def classes_(self) -> np.ndarray:
        """Names of the classes, in the order of the columns of :meth:`predict_proba`."""
        return np.array(self.classes, dtype=object)

    def partial_fit(self, X: Any, y: Any, classes: Sequence[str] | None = None) -> Self:
        """:meth:`observe` under its scikit-learn name.

        Args:
            X: images, a path or paths.
            y: a class name for each.
            classes: class names to add first, which sets the order of columns.

        Raises:
            InputError: as for :meth:`observe`.
        """
        calls.observe(_learner(self), X, y, _BATCH, () if classes is None else classes)
        return self

    def __dir__(self) -> list[str]:
        """The user-facing methods and properties."""
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
