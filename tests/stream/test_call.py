"""A whole experiment from Python."""

from __future__ import annotations

from typing import Any

import pytest

import crumb
from crumb.errors import InputError


def test_one_call_is_a_whole_experiment(dataset, weights, tmp_path):
    settings = {"backbone": "test_efficientnet", "cut": "blocks.4", "weights": str(weights)}
    out = tmp_path / "out"
    results = crumb.stream(dataset.folder, "ncm", runs=2, output=out, **settings)
    accuracies = [
        record.scores[-1][-1].accuracy[1, "all", "direct"] for record in results.finished()
    ]
    assert len(accuracies) == 2
    assert all(25 < accuracy <= 100 for accuracy in accuracies)
    again = crumb.stream(dataset.folder, "ncm", runs=2, output=out, **settings)
    assert again.finished() == results.finished()


def test_what_is_no_setting_is_refused(dataset):
    with pytest.raises(
        InputError, match="learning_rate: is not a setting of a stream; choose from"
    ):
        crumb.stream(dataset.folder, "er", learning_rate=0.1)
    with pytest.raises(InputError, match="lr: is not a setting of a stream"):
        crumb.stream(dataset.folder, "slda", lr=0.1)


def test_settings_are_called_as_their_flags_are(dataset, weights, tmp_path):
    flags: dict[str, Any] = {
        "backbone": "test_efficientnet",
        "cut": "blocks.4",
        "weights": str(weights),
    }
    flags |= {"protocol": "class_iid", "classes_per_task": 1, "test_batch_size": 8, "top_k": (1,)}
    flags |= {"device": "cpu", "workers": 1, "feature_cache": "off", "mem_accuracy": False}
    (record,) = crumb.stream(dataset.folder, "ncm", output=tmp_path / "out", **flags).finished()
    assert len(record.scores) == 4
    assert {k for k, *_ in record.scores[-1][-1].accuracy} == {1}
    with pytest.raises(InputError, match="^device='nowhere': does not exist on this machine"):
        crumb.stream(dataset.folder, "ncm", **flags | {"device": "nowhere"})
    with pytest.raises(InputError, match="^machine"):
        crumb.stream(dataset.folder, "ncm", machine=3, device="cpu")


def test_other_settings_are_refused_in_words_of_python(dataset, weights, tmp_path):
    flags: dict[str, Any] = {
        "backbone": "test_efficientnet",
        "cut": "blocks.4",
        "weights": str(weights),
    }
    flags |= {"output": tmp_path / "out", "protocol": "class_iid"}
    crumb.stream(dataset.folder, "ncm", **flags)
    with pytest.raises(InputError, match=r"^output='.*out': was made with stream"):
        crumb.stream(dataset.folder, "ncm", mode="strict", **flags)
    # What was interrupted before anything was finished.
    (tmp_path / "out/runs/run0.json").unlink()
    assert len(crumb.stream(dataset.folder, "ncm", **flags).finished()) == 1


def test_the_package_lists_what_users_need():
    assert dir(crumb) == [
        "InputError",
        "Learner",
        "__version__",
        "create",
        "frames",
        "load",
        "stream",
    ]
    for name in crumb.__all__:
        assert callable(getattr(crumb, name))
        assert name in str(crumb.__doc__) or name in ("InputError", "Learner")
