"""The published lists, which every run must reproduce, and what holds for lists of any index."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crumb.data.index import COLUMNS, Dataset
from crumb.data.protocol import PROTOCOLS, Frames, TaskLayout, TaskList, lay_out
from crumb.data.sets.core50 import core50_dataset
from crumb.errors import InputError

# For each run: class ids in label order and the first 16 digits of the SHA-256 of all stream lists
# and the test list, for class_iid and class_instance; then that of iid.
CORE50 = [
    (
        "3 9 5 10 2 7 4 8 1 6",
        "51b0fc2234646aa8",
        "3 9 10 5 2 7 8 4 6 1",
        "e97263207f3046fe",
        "65937e56141df290",
    ),
    (
        "10 3 7 5 4 1 8 2 9 6",
        "25796910b7f24ca5",
        "10 3 7 5 1 4 8 2 9 6",
        "af767f1f66cccc83",
        "6052aa3571bd0cf3",
    ),
    (
        "5 2 6 1 8 3 7 4 10 9",
        "f83dfb3d28688111",
        "5 2 1 6 8 3 4 7 9 10",
        "df04bd6acd254690",
        "e6c14f032f2d3970",
    ),
    (
        "6 5 3 2 10 7 8 1 9 4",
        "e0850a708622b6c5",
        "5 6 2 3 10 7 8 1 4 9",
        "fb681610ea80d35b",
        "a0260947fc58a28b",
    ),
    (
        "9 4 10 5 7 3 2 1 8 6",
        "fb9fd3dc26dd9f8b",
        "9 4 10 5 3 7 2 1 8 6",
        "9cc6cbe0d9490d09",
        "425f904948084182",
    ),
    (
        "10 6 5 3 8 2 9 1 7 4",
        "d20d60157f665758",
        "6 10 3 5 8 2 9 1 7 4",
        "47ffffada6a030d6",
        "0bb021c4a88cd19a",
    ),
    (
        "9 2 8 1 7 6 5 3 10 4",
        "b7fa2e19204d11e9",
        "2 9 1 8 6 7 3 5 4 10",
        "c479716c08537214",
        "73e2ef6f8b1703cc",
    ),
    (
        "6 9 1 3 2 10 4 8 5 7",
        "a93c18135d088394",
        "6 9 3 1 2 10 4 8 7 5",
        "7d0f5ab5fc7427c7",
        "e53a1896f06c7331",
    ),
    (
        "9 7 10 1 6 3 8 2 5 4",
        "a18814efd269ae99",
        "7 9 1 10 6 3 8 2 4 5",
        "60aa8537ac016a97",
        "59760f11a6824fc2",
    ),
    (
        "5 9 3 8 2 10 1 4 6 7",
        "09766183175dd64f",
        "5 9 8 3 2 10 1 4 7 6",
        "190f77c63a7fa382",
        "1c1f727249cdd957",
    ),
]
CORE50_FIRST_TASK = "0585ec7c9706ace65597d2664f3eaec2ebf586125373b8b44a20656d22e0eb59"
LABEL_ORDERS = {
    ("toybox", "class_iid"): [
        "7 12 5 11 3 9 2 8 4 10 1 6",
        "4 3 11 5 7 2 8 1 12 10 9 6",
        "10 6 8 5 11 2 4 1 7 3 12 9",
        "5 6 2 3 7 12 1 8 4 10 9 11",
        "4 5 7 10 3 9 1 12 2 6 8 11",
        "8 6 10 3 12 5 9 2 11 1 7 4",
        "9 12 2 7 1 8 3 6 4 5 10 11",
        "11 8 6 3 2 1 12 9 7 4 10 5",
        "10 8 11 9 12 7 3 1 6 2 5 4",
        "10 8 3 1 5 4 12 2 11 9 7 6",
    ],
    ("toybox", "class_instance"): [
        "7 12 5 11 9 3 2 8 10 4 1 6",
        "3 4 5 11 2 7 1 8 12 10 9 6",
        "6 10 8 5 2 11 1 4 7 3 9 12",
        "6 5 2 3 12 7 1 8 10 4 9 11",
        "4 5 7 10 3 9 1 12 6 2 11 8",
        "8 6 3 10 12 5 2 9 11 1 7 4",
        "12 9 2 7 1 8 3 6 4 5 10 11",
        # The order handed down has 4 before 7 here; test_toybox_orders_by_a_plain_loop settles it.
        "8 11 6 3 2 1 12 9 7 4 10 5",
        "10 8 9 11 7 12 1 3 2 6 5 4",
        "8 10 3 1 4 5 2 12 9 11 7 6",
    ],
    ("ilab2mlight", "class_iid"): [
        "7 9 5 13 3 15 2 10 8 12 1 4 6 14",
        "8 4 7 3 12 5 14 2 15 1 10 9 13 6",
        "13 5 6 1 10 4 12 2 14 8 7 3 15 9",
        "5 8 2 3 7 15 1 6 13 14 4 10 9 12",
        "5 4 13 10 15 7 3 1 14 9 6 2 12 8",
        "2 6 3 8 12 15 5 13 9 10 1 14 4 7",
        "15 14 8 7 9 3 13 6 2 1 5 4 12 10",
        "14 13 6 3 2 1 15 9 12 8 7 4 10 5",
        "8 12 3 13 7 14 1 15 6 9 2 10 4 5",
        "15 8 12 3 4 1 10 5 13 2 9 7 14 6",
    ],
    ("ilab2mlight", "class_instance"): [
        "7 9 13 5 3 15 2 10 8 12 4 1 6 14",
        "4 8 7 3 12 5 2 14 1 15 10 9 13 6",
        "13 5 6 1 10 4 2 12 8 14 3 7 9 15",
        "5 8 2 3 15 7 6 1 14 13 4 10 9 12",
        "5 4 13 10 7 15 3 1 9 14 2 6 12 8",
        "2 6 8 3 12 15 13 5 10 9 14 1 7 4",
        "15 14 7 8 9 3 6 13 1 2 5 4 12 10",
        "14 13 6 3 2 1 9 15 8 12 4 7 5 10",
        "8 12 3 13 14 7 15 1 9 6 2 10 4 5",
        "8 15 3 12 1 4 5 10 13 2 7 9 14 6",
    ],
}
# First ten of the shuffled classes: (classes, run, order).
MANY_CLASSES = [
    (100, 0, "26 86 2 55 75 93 16 73 54 95"),
    (100, 1, "80 84 33 81 93 17 36 82 69 65"),
    (100, 2, "83 30 56 24 16 23 2 27 28 13"),
    (1000, 0, "993 859 298 553 672 971 27 231 306 706"),
    (1000, 1, "507 818 452 368 242 929 262 810 318 49"),
    (1000, 2, "37 726 846 295 924 658 682 286 880 272"),
]


def balanced(
    classes: list[int], objects: int, sessions: int, frames: int, test_sessions: tuple[int, ...]
) -> Dataset:
    """A balanced data set without images; its paths tell class, object, session and frame."""
    keys = itertools.product(
        classes, range(1, objects + 1), range(1, sessions + 1), range(1, frames + 1)
    )
    rows = [(*key, "{}/{}/{}/{}.png".format(*key)) for key in keys]
    index = pd.DataFrame(rows, columns=list(COLUMNS))
    names = {number: str(number) for number in classes}
    return Dataset("balanced", Path("set"), Path("images"), index, names, test_sessions)


@pytest.fixture(scope="module")
def core50() -> Dataset:
    dataset = core50_dataset(Path("core50_128x128"))
    names = {number: str(number) for number in dataset.class_names}
    return Dataset("core50", Path(), dataset.images, dataset.index, names, dataset.test_sessions)


@pytest.fixture(scope="module")
def structures() -> dict[str, Dataset]:
    without_semi = [number for number in range(1, 16) if number != 11]
    return {
        "toybox": balanced(list(range(1, 13)), 29, 10, 15, (3, 6, 9)),
        "ilab2mlight": balanced(without_semi, 28, 8, 15, (4, 8)),
    }


def lines(frames: Frames) -> list[str]:
    pairs = zip(frames.paths, frames.labels.tolist(), strict=True)
    return [f"{path} {label}\n" for path, label in pairs]


def digest(parts: list[list[str]]) -> str:
    return hashlib.sha256("".join(itertools.chain(*parts)).encode()).hexdigest()


def clip_of(path: str) -> str:
    return path.rsplit("/", 1)[0]


@pytest.mark.parametrize("run", range(10))
@pytest.mark.parametrize("protocol", ["class_iid", "class_instance"])
def test_core50_equals_the_published_lists(core50: Dataset, protocol: str, run: int):
    order, expected = CORE50[run][:2] if protocol == "class_iid" else CORE50[run][2:4]
    tasks = lay_out(core50, protocol, run)
    assert " ".join(tasks.classes) == order
    assert digest([lines(part) for part in (*tasks.tasks, tasks.test)])[:16] == expected


def test_core50_first_task_in_full(core50: Dataset):
    first = lines(lay_out(core50, "class_iid", 0).tasks[0])
    assert first[0] == "s8/o12/C_08_12_070.png 0\n"
    assert digest([first]) == CORE50_FIRST_TASK


@pytest.mark.parametrize("run", range(10))
def test_core50_iid_is_published_but_for_the_shared_rows(core50: Dataset, run: int):
    tasks = lay_out(core50, "iid", run)
    ours = [lines(part) for part in tasks.tasks]
    assert [len(part) for part in ours] == [1200] * 5
    overlapping = [part + next_part[:1] for part, next_part in itertools.pairwise(ours)]
    assert digest([*overlapping, ours[-1], lines(tasks.test)])[:16] == CORE50[run][4]


def test_core50_sizes(core50: Dataset):
    for protocol in PROTOCOLS:
        stream = lay_out(core50, protocol, 0)
        assert [len(part.paths) for part in stream.tasks] == [1200] * 5
        assert len(stream.test.paths) == 2250
        offline = lay_out(core50, protocol, 0, offline=True)
        assert [len(part.paths) for part in offline.tasks] == [1200 * n for n in range(1, 6)]


@pytest.mark.parametrize("run", range(10))
@pytest.mark.parametrize(("name", "protocol"), LABEL_ORDERS)
def test_label_orders(structures: dict[str, Dataset], name: str, protocol: str, run: int):
    tasks = lay_out(structures[name], protocol, run)
    assert " ".join(tasks.classes) == LABEL_ORDERS[name, protocol][run]
    size = {"toybox": 6090, "ilab2mlight": 5040}[name]
    assert {len(part.paths) for part in tasks.tasks} == {size}


@pytest.mark.parametrize("run", range(10))
def test_toybox_orders_by_a_plain_loop(run: int):
    """The published procedure spelled out, with a list of clips shuffled in place."""
    generator = np.random.RandomState(run)
    classes = list(range(1, 13))
    generator.shuffle(classes)
    order: list[int] = []
    for start in range(0, 12, 2):
        pair = sorted(classes[start : start + 2])
        clips = list(itertools.product(range(1, 30), (1, 2, 4, 5, 7, 8, 10), pair))
        generator.shuffle(clips)
        order += dict.fromkeys(number for _, _, number in clips)
    assert " ".join(map(str, order)) == LABEL_ORDERS["toybox", "class_instance"][run]


@pytest.mark.parametrize(("classes", "run", "order"), MANY_CLASSES)
def test_class_orders_of_many_classes(classes: int, run: int, order: str):
    # One class a task: the labels then follow the shuffled classes.
    dataset = balanced(list(range(classes)), 1, 2, 1, (2,))
    tasks = lay_out(dataset, "class_iid", run, layout=TaskLayout(classes_per_task=1))
    assert " ".join(tasks.classes[:10]) == order


def test_core50_classes_come_in_pairs(core50: Dataset):
    tasks = lay_out(core50, "class_iid", 0, layout=TaskLayout(classes_per_task=1))
    assert " ".join(tasks.classes) == "3 9 5 10 2 7 8 4 1 6"


@pytest.mark.parametrize("run", range(3))
def test_offline_class_lists_by_a_plain_loop(core50: Dataset, run: int):
    train = core50.index[~core50.index["session"].isin(core50.test_sessions)]
    rows = list(train.itertuples(index=False, name=None))
    generator = np.random.RandomState(run)
    classes = np.arange(1, 11)
    generator.shuffle(classes)
    class_iid = lay_out(core50, "class_iid", run, offline=True)
    class_instance = lay_out(core50, "class_instance", run, offline=True)
    for task in range(5):
        generator.shuffle(classes[: 2 * task + 2])
        chosen = classes[: 2 * task + 2].tolist()
        images = [row[4] for row in rows if row[0] in chosen]
        order = np.random.RandomState(run).permutation(len(images))
        assert class_iid.tasks[task].paths == tuple(images[place] for place in order)
        clips = sorted({(row[1], row[2], row[0]) for row in rows if row[0] in chosen})
        generator.shuffle(clips)
        prefixes = [path.rsplit("_", 1)[0] for path in class_instance.tasks[task].paths[::15]]
        assert prefixes == [f"s{clip[1]}/o{clip[0]}/C_{clip[1]:02}_{clip[0]:02}" for clip in clips]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_offline_tasks_are_shuffled_anew(core50: Dataset, protocol: str):
    stream = lay_out(core50, protocol, 0).tasks
    offline = lay_out(core50, protocol, 0, offline=True).tasks
    for task in range(1, 5):
        assert offline[task].paths[:1200] != stream[0].paths
        assert offline[task].paths[:1200] != offline[task - 1].paths[:1200]


@pytest.mark.parametrize("protocol", ["instance", "class_instance"])
@pytest.mark.parametrize("offline", [False, True])
def test_clips_stay_whole_and_in_time_order(core50: Dataset, protocol: str, offline: bool):
    for task in lay_out(core50, protocol, 1, offline).tasks:
        paths = np.array(task.paths).reshape(-1, 15)
        for clip in paths.tolist():
            assert clip == sorted(clip)
            assert len({path[:-8] for path in clip}) == 1


def test_instance_mixes_classes_and_finds_every_clip(core50: Dataset):
    tasks = lay_out(core50, "instance", 0)
    paths = [path for task in tasks.tasks for path in task.paths]
    assert len(set(paths)) == len(paths) == 6000
    assert all(len(set(task.labels.tolist())) > 2 for task in tasks.tasks)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_runs_differ_and_repeat(core50: Dataset, protocol: str):
    np.random.seed(0)  # noqa: NPY002 - the global generator must not matter
    first = lay_out(core50, protocol, 3)
    np.random.rand(7)  # noqa: NPY002
    assert lay_out(core50, protocol, 3).tasks[0].paths == first.tasks[0].paths
    assert lay_out(core50, protocol, 4).tasks[0].paths != first.tasks[0].paths


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_laying_out_leaves_the_global_generator_alone(core50: Dataset, protocol: str):
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    lay_out(core50, protocol, 0, offline=True)
    assert np.random.rand() == expected  # noqa: NPY002


@st.composite
def cases(draw: st.DrawFn) -> tuple[Dataset, TaskLayout]:
    classes = draw(st.permutations(range(draw(st.integers(1, 6)))))
    sessions = draw(st.integers(2, 4))
    dataset = balanced(
        classes, draw(st.integers(1, 3)), sessions, draw(st.integers(1, 4)), (sessions,)
    )
    size = st.none() | st.integers(1, 20)
    return dataset, TaskLayout(draw(st.integers(1, 4)), draw(size), draw(size))


@settings(max_examples=60)
@given(cases(), st.sampled_from(PROTOCOLS), st.integers(0, 2**32 - 1))
def test_tasks_of_any_index(case: tuple[Dataset, TaskLayout], protocol: str, run: int):
    dataset, layout = case
    is_test = dataset.index["session"].isin(dataset.test_sessions)
    train = dataset.index["im_path"][~is_test].tolist()
    stream = lay_out(dataset, protocol, run, layout=layout)
    paths = [path for task in stream.tasks for path in task.paths]
    assert Counter(paths) == Counter(train)
    assert list(stream.test.paths) == dataset.index["im_path"][is_test].tolist()
    check_labels(stream)
    check_sizes(stream, dataset, layout)

    offline = lay_out(dataset, protocol, run, offline=True, layout=layout)
    check_labels(offline)
    seen: Counter[str] = Counter()
    for one, union in zip(stream.tasks, offline.tasks, strict=True):
        seen += Counter(one.paths)
        assert Counter(union.paths) == seen


def check_labels(tasks: TaskList) -> None:
    """Labels count classes in order of first appearance and name the class in the path."""
    labels = [label for task in tasks.tasks for label in task.labels.tolist()]
    assert list(dict.fromkeys(labels)) == list(range(len(tasks.classes)))
    for frames in (*tasks.tasks, tasks.test):
        assert frames.labels.dtype == np.int64
        for path, label in zip(frames.paths, frames.labels.tolist(), strict=True):
            assert path.split("/")[0] == tasks.classes[label]
    assert tasks.table is not None
    assert tasks.table["label"].tolist() == labels
    task_of = [number for number, task in enumerate(tasks.tasks) for _ in task.paths]
    assert tasks.table["task"].tolist() == task_of


def check_sizes(stream: TaskList, dataset: Dataset, layout: TaskLayout) -> None:
    class_tasks = -(-len(dataset.class_names) // layout.classes_per_task)
    counts = [len(task.paths) for task in stream.tasks]
    if stream.protocol == "instance":
        counts = [len({clip_of(path) for path in task.paths}) for task in stream.tasks]
        size = layout.clips_per_task
    elif stream.protocol == "iid":
        size = layout.images_per_task
    else:
        counts = [len(set(task.labels.tolist())) for task in stream.tasks]
        size = layout.classes_per_task
    if size is None:
        assert len(counts) == min(class_tasks, sum(counts))
        assert max(counts) - min(counts) <= 1
    else:
        assert set(counts[:-1]) <= {size}
        assert 0 < counts[-1] <= size


def test_the_table_finds_the_rows_of_the_index(core50: Dataset):
    table = lay_out(core50, "class_instance", 0).table
    assert table is not None
    rows = core50.index.iloc[table["Unnamed: 0"].tolist()].reset_index(drop=True)
    pd.testing.assert_frame_equal(table.loc[:, list(COLUMNS)], rows)


@pytest.mark.parametrize("field", ["classes_per_task", "images_per_task", "clips_per_task"])
@pytest.mark.parametrize("size", [0, -3, 1 << 63])
def test_sizes_that_cannot_be(field: str, size: int):
    with pytest.raises(InputError, match=f"^{field}={size}: is out of range;"):
        TaskLayout(**{field: size})


def test_bad_arguments(core50: Dataset):
    with pytest.raises(InputError, match=r"protocol.*class_instance"):
        lay_out(core50, "random", 0)
    with pytest.raises(InputError, match="run"):
        lay_out(core50, "iid", -1)
    with pytest.raises(InputError, match="run"):
        lay_out(core50, "iid", 2**32)


@pytest.mark.parametrize(
    ("test_sessions", "complaint"), [((1, 2), "to train on"), ((7,), "to test on")]
)
def test_empty_training_or_test_set(test_sessions: tuple[int, ...], complaint: str):
    with pytest.raises(InputError, match=complaint):
        lay_out(balanced([1, 2], 1, 2, 1, test_sessions), "class_iid", 0)


def test_a_class_without_training_images_is_not_skipped():
    dataset = balanced([1, 2], 1, 2, 1, (2,))
    rows = (dataset.index["class"] != 2) | (dataset.index["session"] == 2)
    index = dataset.index.loc[rows.to_numpy()].reset_index(drop=True)
    broken = Dataset("x", Path("set"), Path(), index, dataset.class_names, (2,))
    with pytest.raises(InputError, match="only test images of class '2'"):
        lay_out(broken, "class_iid", 0)
