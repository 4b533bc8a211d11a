"""GEM: gradient episodic memory.

Lopez-Paz, Ranzato, "Gradient Episodic Memory for Continual Learning", NIPS 2017,
arXiv 1706.08840.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crumb.data.batches import Batch, Batches
from crumb.errors import require
from crumb.memory.tasks import TaskExemplars
from crumb.methods.described import Ranges
from crumb.methods.optimisation import flat_gradient, set_flat_gradient
from crumb.methods.registry import register
from crumb.methods.rehearsal import Rehearsal, RehearsalConfig
from crumb.methods.training import MAX_FLOAT
from crumb.nets.split import SplitNetwork

EPSILON = 0.001
"""Added to the diagonal of the dual problem, so that its solution is unique."""
AT_A_TIME = 128
"""Number of exemplars of a task per forward pass; gradients are summed."""


@dataclass(frozen=True)
class GemConfig(RehearsalConfig):
    """Settings of GEM."""

    write_policy: Literal["end-of-task", "on-arrival"] | None = None
    """When exemplars are stored: in a second pass over each task (end-of-task), or as frames arrive
    (on-arrival), which takes the task's share of the memory from the past tasks. Default:
    end-of-task, or on-arrival in strict mode."""
    margin: float = 0.5
    """Minimum multiple of each past task's gradient that is added on a conflict."""

    def __post_init__(self) -> None:
        super().__post_init__()
        most = f"at least 0 and at most {MAX_FLOAT:g}"
        require("margin", self.margin, 0 <= self.margin <= MAX_FLOAT, most)


def project(gradient: Tensor, past: Tensor, margin: float) -> Tensor:
    """Project a gradient so that it increases the loss on no past task (section 3).

    Args:
        gradient: gradient of the new batch, float [P].
        past: past of each past task, float [T, P].
        margin: least multiple of each row of ``past`` that is added.

    Returns:
        float [P]: ``gradient`` itself unless its product with a row of ``past`` is negative.
    """
    if not (past @ gradient < 0).any():
        return gradient
    rows = past.double()
    gram, products = (rows @ rows.T).cpu().numpy(), (rows @ gradient.double()).cpu().numpy()
    # Divergence is reported where losses are checked, not by the solver.
    if not (np.isfinite(gram).all() and np.isfinite(products).all()):
        return gradient
    multiples = torch.from_numpy(solve_dual(gram, products, margin)).to(rows)
    return gradient + (multiples @ rows).to(gradient.dtype)


def solve_dual(
    gram: NDArray[np.float64], products: NDArray[np.float64], margin: float
) -> NDArray[np.float64]:
    """The v >= margin that minimises 1/2 v'(GG' + EPSILON I) v + (Gg)'v (equation 11).

    With v = margin + u this is a problem of nonnegative least squares: for any S with
    S'S = GG' + EPSILON I it is min |Su + S'^-1 c| over u >= 0, c = (GG' + EPSILON I) margin + Gg.

    Args:
        gram: GG', float64 [T, T].
        products: Gg, float64 [T].
        margin: at least 0.

    Returns:
        float64 [T].
    """
    # To import it takes longer than most commands that never solve this.
    from scipy.optimize import nnls

    values, vectors = np.linalg.eigh(gram)
    # Rounding may make a zero eigenvalue slightly negative.
    roots = np.sqrt(values.clip(min=0) + EPSILON)
    factor = roots[:, None] * vectors.T
    linear = factor.T @ (factor @ np.full(len(products), margin)) + products
    try:
        solution, _ = nnls(factor, -(vectors.T @ linear) / roots, maxiter=100 * len(products))
    except RuntimeError:
        # The solver did not converge: fall back to the margin.
        solution = np.zeros_like(products)
    return margin + solution


@register
class Gem(Rehearsal[TaskExemplars]):
    """Each step follows the gradient of the new batch, projected so that it conflicts with no past
    task.

    A past task's gradient is that of its whole memory. As in the authors' program the margin is
    a lower bound of the multiples (the paper adds it to the solution). The paper keeps the last
    frames of a task, which in a shuffled stream are a random sample; ours may come clip by clip,
    so a random sample is taken. It is written when the task is over, unless on arrival: before
    that it constrains nothing, so all of the memory belongs to past tasks. The paper hands the
    network the task of each image; here all classes met so far compete, as for every method.
    Gradients are clipped as for every method, after the projection. The original program never
    fills its memory, which makes its GEM fine-tuning.
    """

    name = "gem"
    summary = "gradients that conflict with no past task"
    paper = "Lopez-Paz and Ranzato, NIPS 2017"
    keeps = "images or feature maps"
    Config = GemConfig
    why_no_budget = "each step is on all exemplars of past tasks"
    tuned: ClassVar[Ranges] = {"margin": (0.05, 5.0)}
    needs_task_boundaries = True

    def __init__(
        self, network: SplitNetwork, config: GemConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        memory = self.generators["memory"]
        self.exemplars = TaskExemplars(self.config, self.storage(), memory, self.device)
        self.needs_second_pass = self.config.write_policy == "end-of-task"

    def check_tasks(self, tasks: int) -> None:
        """Refuse a memory too small for one exemplar per past task."""
        self.exemplars.check_tasks(tasks)

    def end_task(self, batches: Batches) -> None:
        """Turn the task's exemplars into a past task; draw them now unless stored on arrival."""
        if self.needs_second_pass:
            super().end_task(batches)
        self.exemplars.finish_task()

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step along the projected gradient."""
        past = [self._gradient_of(task) for task in range(self.exemplars.past)]
        loss = self.loss(batch.features, batch.labels)
        self.backward(loss)
        if past:
            parameters = [*self.parameters().values()]
            gradient = flat_gradient(parameters)
            projected = project(gradient, torch.stack(past), self.config.margin)
            set_flat_gradient(parameters, projected)
        self.descend()
        if batch.first_pass and not self.needs_second_pass:
            self.exemplars.offer(batch)
        return {"direct": loss.detach()}

    def _gradient_of(self, task: int) -> Tensor:
        """Gradient of the mean cross entropy over all exemplars of a task, float [P]."""
        parameters = [*self.parameters().values()]
        total = torch.zeros(sum(p.numel() for p in parameters), device=self.device)
        count = self.exemplars.memory.count(task)
        for features, labels in self.exemplars.of_task(task, AT_A_TIME):
            self.backward(self.loss(features, labels) * (len(labels) / count))
            total += flat_gradient(parameters)
        return total
