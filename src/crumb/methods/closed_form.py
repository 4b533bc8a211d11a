"""What methods share that keep statistics of features and solve for their answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from crumb.data.batches import Batch
from crumb.errors import InputError, require, setting
from crumb.kinds import check_kinds
from crumb.memory.checked import check_finite, check_forms, check_names
from crumb.memory.moments import ClassMoments
from crumb.methods.base import BytesHeld, Learner, strip_prefix
from crumb.nets.split import SplitNetwork
from crumb.nets.subspace import directions
from crumb.seeds import generator


@dataclass(frozen=True)
class ClosedFormConfig:
    """Which features are described, and in how many bytes."""

    transform: Literal["sqrt", "none"] = "none"
    """Describe the square roots of the features (with their signs), or the features themselves."""
    dimensions: int | None = None
    """Describe the features in this many directions: those in which the network's own classifier
    tells its classes apart best. All of them by default, or as many as BUDGET-BYTES holds."""
    budget_bytes: int | None = None
    """Capacity in bytes of everything that is kept. When new classes need room, the least
    important directions are dropped."""
    classes_expected: int = 10
    """With BUDGET-BYTES, leave room for this many classes from the start."""

    def __post_init__(self) -> None:
        check_kinds(self)
        for name in ("dimensions", "budget_bytes", "classes_expected"):
            if (value := getattr(self, name)) is not None:
                require(name, value, 1 <= value < 1 << 31, "from 1 to 2^31 - 1")


class ClosedForm(Learner):
    """Describes the features of each class; trains nothing, and keeps no frame.

    The features are those that enter the head of the network, averaged over places. Each frame
    counts once, in a stream of several epochs as well. What was seen first and what last makes no
    difference, and nothing is forgotten.

    The directions in which features are described (:mod:`crumb.nets.subspace`) follow from the
    pretrained network, so they are not counted as memory. They are saved, because a saved learner
    does not hold the network's own classifier.

    Attributes:
        moments: of the features in these directions.
    """

    trains = False
    total_counts = True
    covariance: ClassVar[bool]
    """Keeps the covariance within classes."""
    share_of_statistics = 1.0
    """Part of the budget that the statistics may take."""

    def __init__(
        self, network: SplitNetwork, config: Any, seed: int = 0, device: str = "cpu"
    ) -> None:
        if network.config.trainable == "all":
            problem = f"has no effect with {self.name}, which trains nothing"
            raise InputError(setting("trainable", "all"), problem, "leave it out")
        basis = directions(network.head.weight, generator(seed, "directions"))
        super().__init__(network, config, seed, device)
        self.generators["rounding"] = generator(seed, "rounding", device)
        count = min(config.dimensions or len(basis), len(basis))
        count = self._affordable(config.classes_expected, count)
        self._directions = basis[:, :count].to(self.device)
        rounding = self.generators["rounding"]
        self.moments = ClassMoments(count, self.device, rounding, self.covariance)

    # The update rule.

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Merge the frames with the statistics of their classes, if they are seen first.

        Raises:
            InputError: features are not finite; nothing was learned.
        """
        if batch.first_pass:
            with self.inference():
                vectors = self.describe(batch.features)
            if not vectors.isfinite().all():
                raise InputError("the features", "are not finite", "check the network's weights")
            self.absorb(vectors, batch.labels)
            self._changed()
        return {}

    def absorb(self, vectors: Tensor, labels: Tensor) -> None:
        """Merge vectors, float32 [B, dimensions], of these labels, int64 [B]."""
        self.moments.add(vectors, labels)

    def describe(self, features: Tensor) -> Tensor:
        """Feature maps [B, C, H, W] as vectors, float32 [B, dimensions]."""
        pooled = self.network.penultimate(features)
        if self.config.transform == "sqrt":
            pooled = pooled.sign() * pooled.abs().sqrt()
        return pooled @ self._directions

    def _changed(self) -> None:
        """What was computed from the statistics no longer holds."""

    # Room for classes.

    @property
    def dimensions(self) -> int:
        """Directions in which features are described now."""
        return self.moments.dimensions

    def add_classes(self, names: Any) -> None:
        """Give a label to each class that is new; directions are dropped where room is needed.

        Raises:
            InputError: the budget does not hold a single direction for so many classes.
        """
        new = [name for name in dict.fromkeys(names) if name not in self.classes]
        count = self._affordable(len(self.classes) + len(new), self.dimensions)
        super().add_classes(new)
        if count < self.dimensions:
            self._directions = self._directions[:, :count].clone()
            self.drop(count)
        self.make_room(len(self.classes))
        self._changed()

    def drop(self, dimensions: int) -> None:
        """Describe features in the leading directions from now on."""
        self.moments.drop(dimensions)

    def make_room(self, classes: int) -> None:
        """Keep statistics of so many classes."""
        self.moments.make_room(classes)

    def check_room(self, classes: int) -> None:
        """Refuse a budget that does not hold a single direction for so many classes."""
        self._affordable(classes, self.dimensions)

    def bytes_for(self, classes: int, dimensions: int) -> int:
        """Bytes kept for so many classes in so many directions."""
        return ClassMoments.bytes_for(classes, dimensions, self.covariance)

    def _affordable(self, classes: int, most: int) -> int:
        """Directions that the budget holds for so many classes, at most ``most``."""
        if self.config.budget_bytes is None:
            return most
        budget = self.config.budget_bytes * self.share_of_statistics
        if (least := self.bytes_for(classes, 1)) > budget:
            given = setting("budget_bytes", self.config.budget_bytes)
            problem = f"does not hold one direction for {classes} classes"
            enough = math.ceil(least / self.share_of_statistics)
            raise InputError(given, problem, f"give at least {enough}")
        low, high = 1, most
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.bytes_for(classes, middle) <= budget
            low, high = (middle, high) if fits else (low, middle - 1)
        return low

    # Changing classes.

    def forget(self, name: str) -> None:
        """Take a class out; what frames of a class have in common stays known.

        Raises:
            InputError: there is no such class.
        """
        label = self.label_of(name)
        self._remove(label)
        del self.classes[label]
        self._changed()

    def merge(self, name: str, other: str) -> None:
        """Take two classes for one from now on, as if all frames had been of the first.

        Raises:
            InputError: there is no such class, or they are the same.
        """
        label, gone = self.label_of(name), self.label_of(other)
        if label == gone:
            raise InputError("merge", f"{name!r} is one class", "name two")
        self._join(label, gone)
        del self.classes[gone]
        self._changed()

    def _remove(self, label: int) -> None:
        self.moments.forget(label)

    def _join(self, label: int, other: int) -> None:
        self.moments.merge(label, other)

    # The rest of the contract.

    def parameters(self) -> dict[str, nn.Parameter]:
        """Nothing is trained."""
        return {}

    def frames_seen(self) -> int:
        """Frames of all classes that are known."""
        return int(self.moments.counts.sum())

    def bytes_held(self) -> BytesHeld:
        """No exemplars; the statistics."""
        return BytesHeld(0, self.moments.nbytes, self.moments.nbytes)

    def kept(self) -> dict[str, Tensor]:
        """The statistics and their directions."""
        moments = {f"moments.{name}": value for name, value in self.moments.state_dict().items()}
        return {"directions": self._directions} | moments

    def take_shape(self, state: dict[str, Tensor]) -> None:
        """Make room for what a state of :meth:`kept` holds of the classes met.

        Raises:
            ValueError: no learner with these settings has it.
        """
        count = state["directions"].shape[-1]
        if not 1 <= count <= self.dimensions:
            raise ValueError(f"there are {count} directions, where {self.dimensions} are the most")
        self.make_room(len(self.classes))
        self._directions = self._directions[:, :count].clone()
        self.drop(count)

    def state_dict(self) -> dict[str, Tensor]:
        """Network and generators, and what is kept."""
        return super().state_dict() | self.kept()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue with :meth:`state_dict` of a learner with the same settings and classes.

        Raises:
            ValueError: it is of no such learner.
        """
        super().load_state_dict(state)
        own = {
            name: value
            for name, value in state.items()
            if not name.startswith(("network.", "generator."))
        }
        check_names(own, self.kept())
        self.take_shape(own)
        check_forms(own, self.kept())
        check_finite(own)
        self._directions = own["directions"].to(self.device).clone()
        self.moments.load_state_dict(strip_prefix(own, "moments."))
        self._changed()
