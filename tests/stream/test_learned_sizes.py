from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from crumb.data.protocol import Frames
from crumb.stream import learned_sizes
from crumb.stream.learned_sizes import LearnedSizes

TASKS = [["a", "b", "a"], [], ["c", "b"], ["missing", "d"]]


def expected(sizes: list[int]) -> str:
    return hashlib.sha256(repr(sizes).encode()).hexdigest()


def sizes_of(folder: Path) -> LearnedSizes:
    for size, name in enumerate("abcd", 1):
        (folder / name).write_bytes(bytes(size))
    tasks = [Frames(tuple(paths), np.zeros(len(paths), np.int64)) for paths in TASKS]
    return LearnedSizes(folder, tasks)


@pytest.mark.parametrize("files", [1, 1024])
def test_digest_is_that_of_the_list_of_sizes(
    files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(learned_sizes, "_FILES", files)
    sizes = sizes_of(tmp_path)
    lists = {0: [], 1: [1, 2], 2: [1, 2], 3: [1, 2, 3], 4: [1, 2, 3, -1, 4]}
    for tasks in (0, 1, 2, 4, 4, 3, 1):
        assert sizes.digest(tasks) == expected(lists[tasks])


def test_each_file_is_looked_at_once_and_not_before_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sizes, seen = sizes_of(tmp_path), list[str]()
    stat = os.stat

    def noted(path, *more, **words):
        if Path(path).parent == tmp_path:
            seen.append(Path(path).name)
        return stat(path, *more, **words)

    monkeypatch.setattr(os, "stat", noted)
    found = [sizes.digest(tasks) for tasks in (1, 1, 3, 3)]
    monkeypatch.undo()
    assert sorted(seen) == ["a", "b", "c"]
    assert found == [expected(part) for part in ([1, 2], [1, 2], [1, 2, 3], [1, 2, 3])]
