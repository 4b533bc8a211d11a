"""A file that is no model of slda or ncm, though it is whole: one line that names it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from networks import images_of, tiny_network

from crumb.errors import InputError
from crumb.files import read_tensors, write_tensors
from crumb.methods import persistence
from crumb.methods.registry import find_method


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Saves a taught learner after an edit of its tensors or its description; the file."""
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network())

    def save(edit, name="slda", **settings):
        kind = find_method(name)
        learner = kind(tiny_network(), kind.Config(**settings))
        for label, word in enumerate(("red", "blue", "grey")):
            learner.observe(images_of(label, 4), word)
        path = tmp_path / "own.crumb"
        learner.save(path)
        tensors, meta = read_tensors(path, "")
        about = json.loads(meta["crumb-learner"])
        edit(tensors, about)
        write_tensors(path, tensors, {"crumb-learner": json.dumps(about)})
        return path

    return save


def shortened(name: str):
    def edit(tensors: Any, about: Any) -> None:
        tensors[name] = tensors[name][..., :-1].clone()

    return edit


def without(name: str):
    return lambda tensors, about: tensors.pop(name)


def times(name: str, factor: float):
    def edit(tensors: Any, about: Any) -> None:
        tensors[name] = (tensors[name] * factor).to(tensors[name].dtype)

    return edit


def put(name: str, value: Any):
    def edit(tensors: Any, about: Any) -> None:
        tensors[name] = value

    return edit


KEPT = ("moments.centre", "moments.means", "moments.counts", "moments.triangle", "moments.pooled")
CODED = ("crumbs.codes", "crumbs.held", "crumbs.reference")
FLOATS = ("moments.centre", "moments.means", "moments.triangle", "crumbs.reference", "directions")


@pytest.mark.parametrize("name", [*KEPT, *CODED, "directions", "network.tail.norm.weight"])
@pytest.mark.parametrize("how", [shortened, without])
def test_tensors_of_another_shape_or_none_are_refused(saved, how, name):
    if how is shortened and name == "crumbs.codes":
        pytest.skip("test_codes_of_fewer_slices_are_refused")
    with pytest.raises(InputError, match=r"own\.crumb: is damaged"):
        persistence.load_learner(saved(how(name)))


def test_codes_of_fewer_slices_are_refused(saved):
    with pytest.raises(InputError, match=r"own\.crumb: is damaged .*codes"):
        persistence.load_learner(saved(shortened("crumbs.codes")))


@pytest.mark.parametrize("name", ["moments.means", "moments.counts", "crumbs.held", "directions"])
def test_tensors_of_another_type_are_refused(saved, name):
    def edit(tensors: Any, about: Any) -> None:
        tensors[name] = tensors[name].double()

    with pytest.raises(InputError, match=rf"own\.crumb: is damaged .*{name}"):
        persistence.load_learner(saved(edit))


@pytest.mark.parametrize("name", [*FLOATS, "network.tail.norm.weight", "network.tail.norm.bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(saved, name, value):
    with pytest.raises(InputError, match=r"own\.crumb: is damaged .*is not finite"):
        persistence.load_learner(saved(times(name, value)))


@pytest.mark.parametrize(
    "edit",
    [
        times("moments.counts", -1),
        times("moments.pooled", -1),
        put("moments.pooled", torch.tensor([12, 9999], dtype=torch.int32)),
        times("crumbs.held", 500),
        times("crumbs.held", -1),
        put("moments.strange", torch.zeros(3)),
    ],
)
def test_numbers_that_cannot_be_are_refused(saved, edit):
    with pytest.raises(InputError, match=r"own\.crumb: is damaged"):
        persistence.load_learner(saved(edit))


@pytest.mark.parametrize(
    "names",
    [["red", "blue"], ["red", "blue", "grey", "more"], ["red", "red", "grey"], ["red", "", "x"]],
)
@pytest.mark.parametrize("method", ["slda", "ncm", "finetune"])
def test_names_that_are_not_those_of_the_classes_are_refused(saved, names, method):
    if method == "finetune" and len(set(names)) == len(names) and all(names):
        pytest.skip("its head does not say how many classes there are")
    with pytest.raises(InputError, match=r"own\.crumb: is damaged"):
        persistence.load_learner(saved(lambda tensors, about: about.update(classes=names), method))


@pytest.mark.parametrize("count", [17, 400])
def test_more_classes_than_outputs_are_refused(saved, count):
    names = [f"thing {number}" for number in range(count)]
    with pytest.raises(InputError, match=r"own\.crumb: is damaged .*more classes than outputs"):
        persistence.load_learner(
            saved(lambda tensors, about: about.update(classes=names), "finetune")
        )


@pytest.mark.parametrize("reach", ["far", [1.0], [0.5, 1.0], [2.0, -1.0], [2.0, float("inf")], {}])
def test_a_reach_that_cannot_be_is_refused(saved, reach):
    with pytest.raises(InputError, match=r"own\.crumb: is damaged"):
        persistence.load_learner(saved(lambda tensors, about: about.update(reach=reach)))


def test_a_budget_that_cannot_be_names_the_file(saved):
    def edit(tensors: Any, about: Any) -> None:
        about["config"]["budget_bytes"] = 10

    with pytest.raises(InputError, match=r"own\.crumb: cannot be loaded .*budget_bytes=10"):
        persistence.load_learner(saved(edit))


def test_models_whose_directions_and_crumbs_have_become_fewer_are_loaded(saved):
    """Room that classes took is not given back when they are forgotten."""
    kind: Any = find_method("slda")
    learner = kind(tiny_network(), kind.Config(budget_bytes=320, classes_expected=2))
    names = [f"thing {number}" for number in range(12)]
    learner.add_classes(names)
    for name in names[:9]:
        learner.forget(name)
    learner.observe(images_of(0, 4), names[9])
    path = saved(lambda tensors, about: None)
    learner.save(path)
    loaded: Any = persistence.load_learner(path)
    assert isinstance(loaded, kind)
    assert loaded.classes == names[9:]
    assert loaded.dimensions == learner.dimensions < 8
    one, other = learner.state_dict(), loaded.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
