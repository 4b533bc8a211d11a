"""Every method in both modes of the protocol, and with the whole network trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import get_type_hints

import pytest
import torch
from torch import Tensor

from crumb.data.batches import Batch
from crumb.data.index import Dataset
from crumb.data.protocol import lay_out
from crumb.errors import InputError, flag_of
from crumb.files import read_tensors, read_toml
from crumb.kinds import choices_of
from crumb.memory.capacity import AT_TASK_END
from crumb.methods.agem import Agem
from crumb.methods.base import Learner
from crumb.methods.registry import methods
from crumb.stream.feed import Reading
from crumb.stream.results import Results

Streamed = Callable[..., Results]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image is handed to a learner or to a test."""
    counted: Counter[str] = Counter()
    original = Reading.__iter__

    def counting(self: Reading):
        for number, batch in enumerate(original(self), self.start):
            counted.update(self.paths(number))
            yield batch

    monkeypatch.setattr(Reading, "__iter__", counting)
    return counted


def training_paths(dataset: Dataset) -> list[str]:
    tasks = lay_out(dataset, "class_instance", 0)
    return [path for frames in tasks.tasks for path in frames.paths]


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Learner]], list[int]]:
    """Begin to note the bytes of the replay memory of a method after each batch."""

    def watched(kind: type[Learner]) -> list[int]:
        held: list[int] = []
        learn = kind.learn

        def noting(self: Learner, batch: Batch) -> dict[str, Tensor]:
            losses = learn(self, batch)
            held.append(self.bytes_held().replay)
            return losses

        monkeypatch.setattr(kind, "learn", noting)
        return held

    return watched


@pytest.mark.parametrize(
    "method",
    [name for name, kind in methods().items() if kind.strict() and not kind.needs_attention],
)
def test_strict_shows_each_image_once_and_stores_on_arrival(
    streamed: Streamed, dataset: Dataset, reads, replays, method: str
):
    kind = methods()[method]
    budget = ["--budget-bytes", "60000"] if kind.stores_exemplars() else []
    few = ["--memory-epochs", "2"] if method == "gdumb" else []
    held = replays(kind)
    results = streamed("--method", method, "--mode", "strict", *budget, *few, epochs=None)
    assert {reads[path] for path in training_paths(dataset)} == {1}
    (record,) = results.finished()
    assert [len(epochs) for epochs in record.scores] == [1, 1]
    assert record.images == len(training_paths(dataset))
    # Class means and covariances stand for all frames, so these store none.
    if kind.stores_exemplars() and method not in ("fecam", "ncm", "ranpac"):
        assert held[0] > 0
        assert max(held) <= 60_000


@pytest.mark.parametrize("method", [n for n, kind in methods().items() if not kind.strict()])
def test_methods_that_read_twice_refuse_to_be_strict(streamed: Streamed, method: str):
    with pytest.raises(InputError, match=f"mode='strict': cannot be used with {method}"):
        streamed("--method", method, "--mode", "strict", epochs=None)


@pytest.mark.parametrize(
    ("method", "policy"),
    [
        (name, policy)
        for name, kind in methods().items()
        for policy in choices_of(get_type_hints(kind.Config).get("write_policy")) or ()
        # A-GEM has one name for each mode.
        if policy in AT_TASK_END and not issubclass(kind, Agem)
    ],
)
def test_storing_at_the_end_of_a_task_contradicts_strict_mode(
    streamed: Streamed, method: str, policy: str
):
    """In the same words for every method, whether it would do so by default or not."""
    asked = ["--method", method, "--write-policy", policy]
    with pytest.raises(InputError) as refused:
        streamed(*asked, "--mode", "strict", epochs=None)
    assert refused.value.in_flags() == (
        f"--write-policy {policy}: contradicts --mode strict, which needs "
        "--write-policy on-arrival; leave one of them out"
    )


@pytest.mark.parametrize(("mode", "policy"), [("paper", "end-of-task"), ("strict", "on-arrival")])
def test_the_mode_decides_what_is_left_open(streamed: Streamed, mode: str, policy: str):
    results = streamed("--mode", mode, "--budget-bytes", "60000", epochs=None)
    made = read_toml(results.folder / "config.toml", "")
    assert made["method"]["write_policy"] == policy
    assert made["stream"]["epochs_first_task"] == {"paper": 10, "strict": 1}[mode]
    # What is written there is accepted again.
    streamed("--resume", str(results.folder), epochs=None)


def test_settings_that_contradict_strict_mode(streamed: Streamed):
    with pytest.raises(InputError, match="epochs_first_task=10: contradicts"):
        # As many as in paper mode by default.
        streamed("--mode", "strict", epochs=10)
    for name in ("epochs_first_task", "epochs"):
        with pytest.raises(InputError, match=f"{name}=3: contradicts mode='strict'"):
            streamed("--mode", "strict", flag_of(name), "3", epochs=None)
    with pytest.raises(InputError, match="select_best_epoch: contradicts"):
        streamed("--mode", "strict", "--select-best-epoch", epochs=None)


@pytest.mark.parametrize("method", ["finetune", "er", "lwf"])
def test_the_whole_network_is_trained_where_asked_for(streamed: Streamed, method: str):
    budget = ["--budget-bytes", "400000"] if method == "er" else []
    words = ["--method", method, "--trainable", "all", "--save-model", *budget]
    words += ["--classes", "bed", "bottle", "--classes-per-task", "1"]
    first, second = (
        read_tensors(
            streamed(*words, own_stores={}, epochs=1).folder / "learner_run0.safetensors", ""
        )[0]
        for _ in range(2)
    )
    assert not [name for name in first if name.startswith("network.front.")]
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    moved = [name for name in first if name.startswith("momentum.tail.conv_stem")]
    assert moved
    assert first[moved[0]].any()


def test_no_features_are_kept_where_the_front_is_trained(streamed: Streamed, tmp_path):
    cache = ["--feature-cache", "disk", "--feature-cache-folder", str(tmp_path / "cache")]
    streamed("--method", "finetune", "--trainable", "all", *cache, own_stores={})
    assert [path.name.partition("_")[0] for path in (tmp_path / "cache").iterdir()] == ["pixels"]


@pytest.mark.parametrize("method", ["crumb", "remind"])
def test_codes_need_a_frozen_front(streamed: Streamed, method: str):
    with pytest.raises(InputError, match="trainable='all': leaves no fixed features"):
        streamed("--method", method, "--trainable", "all", own_stores={})
