"""The tail of the tiny network on paper: its gradients without autograd."""

from __future__ import annotations

import torch
from networks import TERMS, Task, batch_of, tiny_network
from tests.rounding import assert_rounded

from crumb.methods import persistence


def learner_of(kind, *classes, dropout=0.5, outputs=4, seed=0, **settings):
    """A learner that met these classes; its head has room for ``outputs``."""
    learner = kind(tiny_network(dropout), kind.Config(**settings), seed)
    learner.start_head(outputs)
    learner.begin_task(classes)
    return learner


def task_of(learner, *labels, batches=3, seed=0):
    return Task([batch_of(learner, *labels, seed=seed + 10 * n) for n in range(batches)])


def everything(task):
    """Features and labels of all its frames."""
    features = torch.cat([batch.features for batch in task.batches])
    return features, torch.cat([batch.labels for batch in task.batches])


class Paper:
    """logits = W h + b with h = gamma m + beta, m the mean of the normalised feature map.

    Attributes:
        gradients: of sum_c error_c * logit_c for each frame, [frames, ...], by parameter.
    """

    def __init__(self, learner, features, error_of):
        self.p = {name: p.detach() for name, p in learner.parameters().items()}
        self.outputs, self.met = learner.network.outputs, len(learner.classes)
        variance = learner.network.tail.norm.running_var + learner.network.tail.norm.eps
        centred = features.mean((2, 3)) - learner.network.tail.norm.running_mean
        self.m = centred / variance.sqrt()
        self.h = self.p["tail.norm.weight"] * self.m + self.p["tail.norm.bias"]
        weight = self.p["tail.classifier.weight"]
        logits = (self.h @ weight.T + self.p["tail.classifier.bias"])[:, : self.met]
        error = torch.zeros(len(features), self.outputs)
        error[:, : self.met] = error_of(logits)
        back = error @ weight
        self.gradients = {
            "tail.norm.weight": back * self.m,
            "tail.norm.bias": back,
            "tail.classifier.weight": error[:, :, None] * self.h[:, None, :],
            "tail.classifier.bias": error,
        }


def assert_close(found, expected, terms=TERMS, layers=4):
    """The same numbers by two ways, each of which goes forwards and backwards through the tail."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_rounded(found[name], value, terms, layers)


def goes_on_to_the_bit(build, steps, tmp_path, monkeypatch):
    """Saved and loaded before step ``n`` for each n, it ends as it does undisturbed.

    Args:
        build: makes a fresh learner.
        steps: functions of a learner, in order.
    """
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network(0.5))

    def ended(cut=None):
        learner, losses = build(), []
        for number, step in enumerate(steps):
            if number == cut:
                learner.save(tmp_path / "learner")
                learner = persistence.load_learner(tmp_path / "learner")
            losses.append(step(learner))
        return learner.state_dict(), losses

    state, losses = ended()
    for cut in range(1, len(steps)):
        other, others = ended(cut)
        assert other.keys() == state.keys()
        assert all(torch.equal(value, other[name]) for name, value in state.items()), cut
        assert others == losses
