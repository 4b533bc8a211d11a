"""iLab-2M-Light and CORe50 as one: numbers, balance, the order of classes, and links."""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from whole_chain import command, follow

from crumb.cli.main import main
from crumb.data.index import COLUMNS, Dataset, load_dataset, write_dataset
from crumb.data.protocol import TaskLayout, lay_out
from crumb.data.sets.base import index_source
from crumb.data.sets.core50 import CLASS_NAMES, core50_dataset
from crumb.data.sets.ilab_core50 import ILAB_CLASSES, IlabCore50, balance
from crumb.errors import InputError

ILAB_IDS = [number for number in range(1, 16) if number != 11]


def ilab_dataset(
    folder: Path, classes: int = 14, objects: int = 28, sessions: int = 8, frames: int = 15
) -> Dataset:
    """An index as iLab's is: ids 1 to 15 without 11; no images."""
    numbers: dict[int, str] = dict(list(zip(ILAB_IDS, ILAB_CLASSES, strict=True))[:classes])
    keys = itertools.product(
        numbers, range(1, objects + 1), range(1, sessions + 1), range(1, frames + 1)
    )
    rows = [(*key, "{}/obj_{}/sess_{}/{}.jpg".format(*key)) for key in keys]
    index = pd.DataFrame(rows, columns=list(COLUMNS))
    return Dataset("ilab2mlight", folder, folder / "images", index, numbers, (4, 8))


def both(top: Path, ilab: Dataset | None = None, core50: Dataset | None = None) -> Path:
    """The folders of two data sets below ``top``."""
    write_dataset(ilab or ilab_dataset(top / "ilab"))
    whole = replace(core50_dataset(Path("core50_128x128")), images=top / "frames/core50_128x128")
    write_dataset(replace(core50 or whole, folder=top / "core"))
    return top


def made(top: Path, output: Path) -> tuple[Dataset, tuple[str, ...]]:
    return index_source(IlabCore50(root=top / "ilab", core50=top / "core", output=output))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The structure of both whole data sets, and the one made of them (``set``)."""
    top = both(tmp_path_factory.mktemp("whole"))
    made(top, top / "set")
    return top


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two classes of each, to be changed."""
    core50 = core50_dataset(tmp_path / "frames").select(["plug_adapter", "can"])
    return both(tmp_path, ilab_dataset(tmp_path / "ilab", 2, 6, 8, 3), core50)


def test_published_counts(whole: Path, capsys: pytest.CaptureFixture[str]):
    text = command(capsys, "data", "stats", whole / "set")
    assert "ilab2mlight+core50: 19800 images of 24 classes" in text
    assert "the published counts hold" in text


def test_numbers_of_the_whole(whole: Path):
    dataset = load_dataset(whole / "set")
    assert list(dataset.class_names) == [*ILAB_IDS, *range(16, 26)]
    assert dataset.class_names[15] == "van"
    assert dataset.class_names[16] == CLASS_NAMES[1]
    assert dataset.test_sessions == (3, 7, 10, 15, 19)
    assert dataset.class_groups == (tuple(ILAB_IDS), tuple(range(16, 26)))
    index = dataset.index
    is_ilab = index["class"] <= 15
    assert set(index["session"][is_ilab]) == set(range(12, 20))
    assert set(index["session"][~is_ilab]) == set(range(1, 12))
    keys = list(index[list(COLUMNS[:4])].itertuples(index=False, name=None))
    assert keys == sorted(set(keys))
    for part, images in ((True, 225), (False, 600)):
        rows = index.loc[index["session"].isin(dataset.test_sessions) == part, "class"]
        assert Counter(rows.tolist()) == dict.fromkeys(dataset.class_names, images)


def test_paths_lead_to_the_images_of_both(whole: Path):
    index = load_dataset(whole / "set").index
    first, last = index.iloc[0], index.iloc[-1]
    number, item, session, frame = (int(first[column]) for column in COLUMNS[:4])
    path = f"ilab2mlight/{number}/obj_{item}/sess_{session - 11}/{frame}.jpg"
    assert first["im_path"] == path
    assert last["im_path"] == "core50/s11/o50/C_11_50_290.png"
    assert (whole / "set/images/ilab2mlight").readlink() == whole / "ilab/images"
    assert (whole / "set/images/core50").readlink() == whole / "frames/core50_128x128"
    assert json.loads((whole / "set/dataset.json").read_text())["images"] == "images"


def test_clips_are_drawn_as_pandas_draws_them_with_the_class_id(whole: Path):
    index = load_dataset(whole / "set").index
    for number in ILAB_IDS:
        for sessions, count in (((12, 13, 14, 16, 17, 18), 40), ((15, 19), 15)):
            clips = pd.DataFrame(
                itertools.product(range(1, 29), sessions), columns=["object", "session"]
            )
            drawn = clips.sample(n=count, random_state=number)
            rows = index.loc[(index["class"] == number) & index["session"].isin(sessions)]
            found = set(zip(rows["object"].tolist(), rows["session"].tolist(), strict=True))
            assert found == set(drawn.itertuples(index=False, name=None))


def test_what_is_left_out_is_said(whole: Path, small: Path, tmp_path: Path):
    assert made(whole, tmp_path / "again")[1] == (
        f"clips to train on beyond the number that each class has: {14 * (168 - 40)}",
        f"clips to test on beyond the number that each class has: {14 * (56 - 15)}",
    )
    # Two classes of 36 and 12 clips, two of 40 and 15.
    assert made(small, tmp_path / "set")[1] == (
        "clips to train on beyond the number that each class has: 8",
        "clips to test on beyond the number that each class has: 6",
    )


@pytest.mark.parametrize("run", range(10))
@pytest.mark.parametrize("protocol", ["class_iid", "class_instance"])
def test_real_classes_of_ilab_come_first_in_whole_pairs(whole: Path, protocol: str, run: int):
    dataset = load_dataset(whole / "set")
    generator = np.random.RandomState(run)
    ilab = generator.permutation(ILAB_IDS).tolist()
    order = [*ilab, *generator.permutation(range(16, 26)).tolist()]
    tasks = lay_out(dataset, protocol, run)
    assert [len(task.paths) for task in tasks.tasks] == [1200] * 12
    assert len(tasks.test.paths) == 24 * 225
    for place, task in enumerate(tasks.tasks):
        names = {tasks.classes[label] for label in task.labels.tolist()}
        assert names == {dataset.class_names[number] for number in order[2 * place : 2 * place + 2]}
        kinds = {path.split("/")[0] for path in task.paths}
        assert kinds == {"ilab2mlight" if place < 7 else "core50"}


def test_the_order_differs_between_runs_and_offline_lists_hold_the_same_classes(whole: Path):
    dataset = load_dataset(whole / "set")
    assert lay_out(dataset, "class_iid", 0).classes != lay_out(dataset, "class_iid", 1).classes
    for protocol in ("class_iid", "class_instance"):
        offline = lay_out(dataset, protocol, 3, offline=True)
        assert [len(task.paths) for task in offline.tasks] == [1200 * n for n in range(1, 13)]
        stream = lay_out(dataset, protocol, 3)
        assert set(offline.classes[:14]) == set(stream.classes[:14])


@pytest.mark.parametrize("protocol", ["iid", "instance"])
def test_groups_do_not_matter_where_tasks_are_of_any_class(small: Path, protocol: str):
    dataset, _ = made(small, small / "set")
    apart, together = (
        lay_out(dataset, protocol, 0),
        lay_out(replace(dataset, class_groups=()), protocol, 0),
    )
    assert [task.paths for task in apart.tasks] == [task.paths for task in together.tasks]


@settings(max_examples=30)
@given(
    st.dictionaries(st.integers(1, 30), st.tuples(st.integers(1, 6), st.integers(1, 4))),
    st.integers(0, 9),
)
def test_any_data_set_is_balanced(sizes: dict[int, tuple[int, int]], seed: int):
    sizes = sizes or {1: (1, 1)}
    rows = [
        (number, item, session, frame, f"{number}/{item}/{session}/{frame}")
        for number, (training, tests) in sizes.items()
        for session, objects in ((1, training), (2, tests))
        for item in range(objects)
        for frame in range(2)
    ]
    names = {number: str(number) for number in sizes}
    index = pd.DataFrame(rows, columns=list(COLUMNS))
    balanced, lines = balance(index, names, (2,))
    again, _ = balance(index.sample(frac=1, random_state=seed), names, (2,))
    pd.testing.assert_frame_equal(balanced, again)
    left = 0
    for session, counts in (
        (1, [n for n, _ in sizes.values()]),
        (2, [n for _, n in sizes.values()]),
    ):
        classes = balanced.loc[balanced["session"] == session, "class"].tolist()
        assert Counter(classes) == dict.fromkeys(sizes, 2 * min(counts))
        left += sum(counts) - min(counts) * len(counts)
    assert sum(int(line.rsplit(" ", 1)[1]) for line in lines) == left
    assert set(balanced["im_path"]) <= set(index["im_path"])
    assert list(balanced["im_path"]) == list(balanced.sort_values([*COLUMNS[:4]])["im_path"])


def test_the_data_sets_may_lie_anywhere(tmp_path: Path, small: Path):
    """No folder of theirs is a common root: the links are."""
    other = tmp_path / "another disk/a folder with blanks"
    shutil.move(tmp_path / "core", other)
    folder = tmp_path / "set"
    for _ in range(2):
        index_source(IlabCore50(root=tmp_path / "ilab", core50=other, output=folder))
    assert sorted(path.name for path in (folder / "images").iterdir()) == ["core50", "ilab2mlight"]
    # Images that have moved: indexing again makes the links again.
    write_dataset(replace(load_dataset(other), images=tmp_path / "moved"))
    index_source(IlabCore50(root=tmp_path / "ilab", core50=other, output=folder))
    assert (folder / "images/core50").readlink() == tmp_path / "moved"


def rename(dataset: str, **changes: Any) -> Callable[[Path], object]:
    def change(top: Path) -> None:
        loaded = load_dataset(top / dataset)
        write_dataset(replace(loaded, **changes))

    return change


def edit(
    dataset: str, edit_index: Callable[[pd.DataFrame], pd.DataFrame]
) -> Callable[[Path], None]:
    def change(top: Path) -> None:
        loaded = load_dataset(top / dataset)
        write_dataset(replace(loaded, index=edit_index(loaded.index)))

    return change


def swap(top: Path) -> None:
    (top / "ilab").rename(top / "third")
    (top / "core").rename(top / "ilab")
    (top / "third").rename(top / "core")


def occupy(top: Path) -> None:
    (top / "set/images/core50").mkdir(parents=True)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (swap, "ilab: holds the data set core50; give the folder that `crumb index ilab2mlight`"),
        (rename("core", name="mine"), "core: holds the data set mine; give the folder that"),
        (lambda top: shutil.rmtree(top / "core"), "core: is not a folder;"),
        (
            lambda top: (top / "ilab/dataset.json").unlink(),
            "ilab: is not a data set, because it holds no dataset.json",
        ),
        (
            rename("core", class_names={1: "boat", 5: "can"}),
            "core: has the class boat as well; rename it in one",
        ),
        (
            rename("ilab", class_names={1: "boat", 2: "bus", 16: "kite"}),
            "ilab: has the class number 16, above 15;",
        ),
        (
            edit("core", lambda index: index.assign(session=index["session"] + 1)),
            "core: has the session number 12, above 11;",
        ),
        (
            edit(
                "ilab",
                lambda index: index.loc[(index["class"] == 1) | index["session"].isin([4, 8])],
            ),
            "class bus: has no clip to train on;",
        ),
        (
            edit("ilab", lambda index: index.loc[(index["class"] == 1) | (index["session"] == 1)]),
            "class bus: has no clip to test on;",
        ),
        (occupy, "set/images/core50: cannot be made a link to"),
    ],
)
def test_refusals(small: Path, change: Callable[[Path], object], complaint: str):
    change(small)
    with pytest.raises(InputError) as caught:
        made(small, small / "set")
    assert complaint in str(caught.value)
    assert not (small / "set/dataset.json").exists()
    # Nothing half-made is left beside the links.
    assert not list((small / "set").rglob(".*"))


def test_the_output_is_neither_of_the_two(small: Path, capsys: pytest.CaptureFixture[str]):
    for output in ("ilab/set", "core", "core/set", "."):
        with pytest.raises(InputError, match="output=.* folder of the raw data"):
            made(small, small / output)
    assert main(["index", "ilab2mlight+core50", str(small / "ilab")]) == 2
    assert "--core50" in capsys.readouterr().err


def test_groups_survive_writing_reading_and_selecting(small: Path):
    made(small, small / "set")
    dataset = load_dataset(small / "set")
    assert dataset.class_groups == ((1, 2), (16, 20))
    assert dataset.select(["can", "boat"]).class_groups == ((1,), (20,))
    cans = dataset.select(["can"])
    assert cans.class_groups == ((20,),)
    assert lay_out(cans, "class_iid", 0).classes == ("can",)
    # A data set without groups is written as ever.
    assert "class_groups" not in json.loads((small / "ilab/dataset.json").read_text())
    assert load_dataset(small / "ilab").class_groups == ()


def test_one_class_a_task_shows_the_order(small: Path):
    dataset, _ = made(small, small / "set")
    orders = set()
    for run in range(20):
        tasks = lay_out(dataset, "class_instance", run, layout=TaskLayout(classes_per_task=1))
        assert {*tasks.classes[:2]} == {"boat", "bus"}
        orders.add(tasks.classes)
    assert len(orders) == 4


@pytest.mark.parametrize(
    ("groups", "complaint"),
    [
        ([1, 2], "'class_groups' is not a list of lists of class ids"),
        ({"a": [1]}, "'class_groups' is not a list of lists"),
        ([[1, 2], []], "'class_groups' is not a list of lists"),
        ([["1"]], "'class_groups' is not a list of lists"),
        ([[1, 2], [16]], "does not hold each class in one group"),
        ([[1, 2], [16, 20, 1]], "does not hold each class in one group"),
        ([[1, 2], [16, 20, 21]], "does not hold each class in one group"),
    ],
)
def test_bad_groups(small: Path, groups: object, complaint: str):
    made(small, small / "set")
    path = small / "set/dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"class_groups": groups}))
    with pytest.raises(InputError) as caught:
        load_dataset(small / "set")
    assert complaint in str(caught.value)
    assert str(small / "set") in str(caught.value)


def test_from_images_to_a_stream(
    small: Path, capsys: pytest.CaptureFixture[str], network_words: list[str]
):
    folder = small / "set"
    command(
        capsys, "index", "ilab2mlight+core50", small / "ilab", "--core50", small / "core",
        "--output", folder,
    )  # fmt: skip
    for path in load_dataset(folder).select(["boat", "can"]).index["im_path"]:
        # Written through the links, where the two data sets say that their images are.
        target = folder / "images" / path
        (small / "ilab/images").mkdir(exist_ok=True)
        (small / "frames").mkdir(exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (200 if "core50" in path else 40, 0, 0)).save(target)
    assert list((small / "frames").rglob("*.png"))
    stats = follow(capsys, folder, network_words, ["boat", "can"])
    assert "ilab2mlight+core50: " in stats
