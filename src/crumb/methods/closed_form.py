"""Base class of methods that keep feature statistics and predict in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
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

MIN_SPREAD = 1e-3
"""Assumed standard deviation within classes, in units of the feature norm."""

_OF_LEARNERS = ("network.", "generator.", "momentum.", "optimizer.")
"""Prefixes of the tensors that every learner saves."""


@dataclass(frozen=True)
class ClosedFormConfig:
    """Settings of the feature statistics."""

    transform: Literal["sqrt", "none"] = "none"
    """Transform of the features: signed square root or none."""
    dimensions: int | None = None
    """Number of feature directions to keep, those that best separate the classes of the network's
    own classifier first. Default: all, or as many as BUDGET-BYTES holds."""
    budget_bytes: int | None = None
    """Capacity in bytes for all stored state. When new classes need room, the least important
    directions are dropped."""
    classes_expected: int = 10
    """Number of classes to reserve room for from the start, with BUDGET-BYTES."""

    def __post_init__(self) -> None:
        check_kinds(self)
        for name in ("dimensions", "budget_bytes", "classes_expected"):
            if (value := getattr(self, name)) is not None:
                require(name, value, 1 <= value < 1 << 31, "from 1 to 2^31 - 1")


class ClosedForm(Learner):
    """Keeps feature statistics per class. Trains nothing and stores no frames.

    The features are the inputs of the network's head, averaged over positions. Each frame counts
    once, even over several epochs. The order of frames makes no difference, and nothing is
    forgotten.

    The feature directions (:mod:`crumb.nets.subspace`) follow from the pretrained network, so they
    do not count as memory. They are saved, because a saved learner does not hold the network's own
    classifier.

    Attributes:
        moments: statistics of the features in these directions.
    """

    trains = False
    total_counts = True
    covariance: ClassVar[bool]
    """Whether the method keeps the covariance within classes."""
    Moments: ClassVar[type[ClassMoments]] = ClassMoments
    """Class of the statistics."""
    share_of_statistics = 1.0
    """Share of the budget for the statistics."""

    def __init__(
        self, network: SplitNetwork, config: Any, seed: int = 0, device: str = "cpu"
    ) -> None:
        if network.config.trainable == "all" and not self.trains:
            problem = f"has no effect with {self.name}, which trains nothing"
            raise InputError(setting("trainable", "all"), problem, "leave it out")
        classifier = network.head.weight.detach().clone()
        super().__init__(network, config, seed, device)
        self.generators["rounding"] = generator(seed, "rounding", device)
        count = self._affordable(config.classes_expected, self.most_dimensions())
        self._directions = self.basis(classifier, count).to(self.device)
        self.moments = self.new_moments(count)
        self._solved: Any = None

    # The update rule.

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Add frames to the statistics of their classes in the first epoch.

        Raises:
            InputError: features are not finite. Nothing is learned in that case.
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
        """Add vectors, float32 [B, dimensions], with labels, int64 [B]."""
        self.moments.add(vectors, labels)

    def describe(self, features: Tensor) -> Tensor:
        """Feature maps [B, C, H, W] as vectors, float32 [B, dimensions]."""
        return self.pooled(features) @ self._directions

    def pooled(self, features: Tensor) -> Tensor:
        """What enters the head, pooled and transformed, float32 [B, D]."""
        pooled = self.network.penultimate(features)
        if self.config.transform == "sqrt":
            pooled = pooled.sign() * pooled.abs().sqrt()
        return pooled

    def prepare(self) -> Any:
        """The classifier, computed once until something is learned."""
        if self._solved is None:
            self._solved = self._solve()
        return self._solved

    def _solve(self) -> Any:
        """Compute what predictions need besides the statistics; here nothing."""

    def _changed(self) -> None:
        """Discard what was computed from the old statistics."""
        self._solved = None

    def new_moments(self, dimensions: int) -> ClassMoments:
        """Empty statistics of vectors, without a class."""
        return self.Moments(dimensions, self.device, self.generators["rounding"], self.covariance)

    def clear(self) -> None:
        """Forget all frames but no class."""
        self.moments = self.new_moments(self.dimensions)
        self.make_room(len(self.classes))
        self._changed()

    # The directions.

    def most_dimensions(self) -> int:
        """Number of directions without a budget."""
        width = self.network.penultimate_size
        return min(self.config.dimensions or width, width)

    def basis(self, classifier: Tensor, count: int) -> Tensor:
        """Directions of the features, float32 [D, count].

        Args:
            classifier: weights of the pretrained network's own head.
            count: number of directions, at most :meth:`most_dimensions`.
        """
        return directions(classifier, generator(self.seed, "directions"))[:, :count]

    @property
    def directions(self) -> Tensor:
        """The feature directions in use, float32 [D, dimensions]."""
        return self._directions

    # Room for classes.

    @property
    def dimensions(self) -> int:
        """Current number of feature directions."""
        return self.moments.dimensions

    def add_classes(self, names: Any) -> None:
        """Give each new class a label. Drops directions if room is needed.

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
        """Keep only the leading feature directions from now on."""
        self.moments.drop(dimensions)

    def make_room(self, classes: int) -> None:
        """Make room for statistics of so many classes."""
        self.moments.make_room(classes)

    def check_room(self, classes: int) -> None:
        """Refuse a budget that does not hold a single direction for so many classes."""
        self._affordable(classes, self.dimensions)

    def bytes_for(self, classes: int, dimensions: int) -> int:
        """Bytes needed for so many classes and directions."""
        return self.Moments.bytes_for(classes, dimensions, self.covariance)

    def _affordable(self, classes: int, most: int) -> int:
        """Number of directions that the budget holds for so many classes, at most ``most``."""
        if self.config.budget_bytes is None:
            return most
        budget = self.config.budget_bytes * self.share_of_statistics
        if (least := self.bytes_for(classes, 1)) > budget:
            given = setting("budget_bytes", self.config.budget_bytes)
            problem = f"does not hold one direction for {classes} classes"
            enough = math.ceil(least / self.share_of_statistics)
            raise InputError(given, problem, f"give at least {enough}")
        return largest(most, lambda count: self.bytes_for(classes, count) <= budget)

    # Changing classes.

    def forget(self, name: str) -> None:
        """Remove a class. The shared covariance still includes its frames.

        Raises:
            InputError: there is no such class.
        """
        label = self.label_of(name)
        self._remove(label)
        del self.classes[label]
        self._changed()

    def merge(self, name: str, other: str) -> None:
        """Merge two classes, as if all frames had been of the first.

        Raises:
            InputError: there is no such class, or they are the same.
        """
        label, gone = self.label_of(name), self.label_of(other)
        if label == gone:
            raise InputError("merge", f"{name!r} is the same class twice", "name two")
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
        """Number of frames of all known classes."""
        return int(self.moments.counts.sum())

    def bytes_held(self) -> BytesHeld:
        """The statistics; there are no exemplars."""
        return BytesHeld(0, self.moments.nbytes, self.moments.nbytes)

    def kept(self) -> dict[str, Tensor]:
        """The statistics and their directions."""
        moments = {f"moments.{name}": value for name, value in self.moments.state_dict().items()}
        return {"directions": self._directions} | moments

    def take_shape(self, state: dict[str, Tensor]) -> None:
        """Resize to the classes in a state of :meth:`kept`.

        Raises:
            ValueError: the state does not fit these settings.
        """
        count = state["directions"].shape[-1]
        if not 1 <= count <= self.dimensions:
            raise ValueError(f"there are {count} directions instead of at most {self.dimensions}")
        # As when classes are added: more directions would leave less room for what is stored.
        self._directions = self._directions[:, :count].clone()
        self.drop(count)
        self.make_room(len(self.classes))

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and statistics."""
        return super().state_dict() | self.kept()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes.

        Raises:
            ValueError: the state does not fit.
        """
        super().load_state_dict(state)
        own = {name: value for name, value in state.items() if not name.startswith(_OF_LEARNERS)}
        check_names(own, self.kept())
        self.take_shape(own)
        check_forms(own, self.kept())
        check_finite(own)
        self._directions = own["directions"].to(self.device).clone()
        self.moments.load_state_dict(strip_prefix(own, "moments."))
        self._changed()


def largest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number from 1 to ``most`` that fits; 1 if none does. Smaller ones fit too."""
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def whitening(covariance: Tensor, least: Tensor | float) -> Tensor:
    """Matrix W [d, d] with W W' = inverse of a symmetric matrix [d, d].

    Rounding can make the covariance of few frames indefinite. In this case, no variance of it is
    taken to be below ``least``.
    """
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if failed:
        variances, axes = torch.linalg.eigh(covariance)
        factor = torch.linalg.cholesky((axes * variances.clamp(min=least)) @ axes.T)
    identity = torch.eye(len(covariance), device=covariance.device)
    return torch.linalg.solve_triangular(factor, identity, upper=False).T
