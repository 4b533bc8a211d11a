"""Settings that are compared without a learner, and learners that share a network."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from crumb.cli.stream import settings
from crumb.data.index import Dataset
from crumb.experiments.pretraining import crumb_settings
from crumb.methods.registry import methods
from crumb.stream import learner as module
from crumb.stream.job import settings_of
from crumb.stream.learner import Networks, for_mode, new_learner
from crumb.stream.run import lay_out_runs, stream_job


def test_methods_fill_in_what_was_left_open_and_nothing_else(words: list[str], monkeypatch):
    """In both modes; from one network, which no learner changes."""
    config, network, _ = settings(words)
    networks: Networks = {}
    build, built = module.build_network, []
    monkeypatch.setattr(module, "build_network", lambda *a: built.append(a) or build(*a))
    for name, kind in methods().items():
        if kind.needs_attention:
            continue
        for mode in ("paper", "strict") if kind.strict() else ("paper",):
            stream = replace(config, method=name, mode=mode)
            method = kind.Config(**({"budget_bytes": 60_000} if kind.stores_exemplars() else {}))
            found = new_learner(stream, network, method, 0, networks=networks).config
            asked = {k: v for k, v in asdict(for_mode(mode, method)).items() if v is not None}
            assert asdict(found) == asdict(found) | asked, name
    assert len(built) == 1
    (held,) = networks.values()
    assert not held.drops


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--storage", "image", "--memory-bytes", "50000"],
        ["--storage", "none", "--replay-times", "0"],
        ["--storage", "raw_feature", "--budget-bytes", "300000"],
        ["--blocks", "8", "--mode", "strict"],
    ],
    ids=" ".join,
)
def test_settings_of_crumb_are_known_before_it_is_built(
    words: list[str], dataset: Dataset, flags: list[str]
):
    config, network, method = settings([*words, *flags])
    tasks = lay_out_runs(config, dataset, False)
    job = stream_job(config, network, method, dataset, tasks)
    learner = new_learner(config, network, method, 0)
    assert crumb_settings(job) == settings_of(job, learner.network.config, learner.config)
