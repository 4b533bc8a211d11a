"""Rows in files: shared, checked, never trusted blindly."""

import errno
import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from crumb.errors import InputError
from crumb.features import disk, store
from crumb.features.disk import DiskRows
from crumb.features.rows import MemoryRows
from crumb.features.store import Cache

SHAPE = (3, 2)
ROW_BYTES = 24


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def row(number: int) -> Tensor:
    return torch.full(SHAPE, float(number)) + torch.arange(6.0).view(SHAPE) / 8


def rows_in(folder: Path, budget: int = 1 << 20) -> DiskRows:
    return DiskRows(folder, {}, SHAPE, torch.float32, budget)


def fill(rows: DiskRows | MemoryRows, *numbers: int) -> list[int]:
    """Fill what is missing, one row at a time; which ones were."""
    added = []
    with rows.filling([key(n) for n in numbers]) as missing:
        for number in numbers:
            if key(number) in missing:
                rows.add([key(number)], row(number)[None])
                added.append(number)
    return added


def read(rows: DiskRows | MemoryRows, *numbers: int) -> list[bool]:
    """Whether each row could be read; those that could are right."""
    found, unread = rows.read([key(n) for n in numbers])
    for place, number in enumerate(numbers):
        assert place in unread or torch.equal(found[place], row(number))
    return [place not in unread for place in range(len(numbers))]


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


@pytest.fixture
def small_files(monkeypatch):
    """Files of two rows."""
    monkeypatch.setattr(disk, "_FILE_BYTES", 2 * ROW_BYTES)


@pytest.mark.parametrize("kind", ["memory", "disk"])
@pytest.mark.usefixtures("small_files")
def test_rows_come_back_in_any_order(tmp_path, kind):
    memory = MemoryRows(SHAPE, torch.float32, 1 << 20)
    rows = rows_in(tmp_path / "rows") if kind == "disk" else memory
    assert fill(rows, 0, 1, 2, 3, 4) == [0, 1, 2, 3, 4]
    assert fill(rows, 3, 5, 0, 6) == [5, 6]
    assert read(rows, 6, 0, 3, 3, 5, 1) == [True] * 6
    assert key(7) not in rows


@pytest.mark.usefixtures("small_files")
def test_another_process_uses_what_is_there(tmp_path):
    folder = tmp_path / "rows"
    fill(rows_in(folder), 0, 1, 2, 3, 4)
    assert len(files(folder)) == 3
    other = rows_in(folder)
    assert fill(other, 4, 2, 9) == [9]
    assert read(other, 9, 2, 4) == [True] * 3
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("at", [3, 30, 330, -60, -1])
def test_a_damaged_file_is_removed_and_filled_again(tmp_path, at):
    folder = tmp_path / "rows"
    fill(rows_in(folder), *range(8))
    (file,) = files(folder)
    content = bytearray(file.read_bytes())
    assert len(content) > 330 + 60
    content[at] ^= 1
    file.write_bytes(content)
    again = rows_in(folder)
    assert fill(again, *range(8)) == [*range(8)]
    assert read(again, *range(8)) == [True] * 8


@pytest.mark.parametrize("content", [b"", b"\x08" + bytes(7), b"{}" * 40, os.urandom(500)])
def test_a_foreign_file_does_no_harm(tmp_path, content):
    folder = tmp_path / "rows"
    fill(rows_in(folder), 0, 1)
    (folder / "foreign.safetensors").write_bytes(content)
    assert fill(rows_in(folder), 0, 1, 2) == [2]


@pytest.mark.parametrize("length", [0, 10, 200, -1])
def test_a_file_cut_short_is_removed_and_filled_again(tmp_path, length):
    folder = tmp_path / "rows"
    fill(rows_in(folder), 0, 1)
    (file,) = files(folder)
    file.write_bytes(file.read_bytes()[:length])
    assert fill(rows_in(folder), 0, 1) == [0, 1]


def test_rows_of_another_shape_or_version_are_not_used(tmp_path, monkeypatch):
    folder = tmp_path / "rows"
    wide = DiskRows(folder, {}, (6,), torch.float32, 1 << 20)
    with wide.filling([key(0)]):
        wide.add([key(0)], torch.ones(1, 6))
    assert fill(rows_in(folder), 0) == [0]
    monkeypatch.setattr(disk, "VERSION", disk.VERSION + 1)
    assert fill(rows_in(folder), 0) == [0]


@pytest.mark.usefixtures("small_files")
def test_a_file_that_goes_or_shrinks_under_the_reader_is_noticed(tmp_path):
    folder = tmp_path / "rows"
    rows = rows_in(folder)
    fill(rows, *range(6))
    first, second, third = files(folder)
    kept = rows_of(third)
    first.unlink()
    # Rows come before keys: of this file one byte too few of both rows is left.
    second.write_bytes(second.read_bytes()[: -2 * 16 - ROW_BYTES - 1])
    assert read(rows, *range(6)) == [number in kept for number in range(6)]


@pytest.mark.parametrize("late", [False, True])
def test_a_folder_that_is_cleared_while_it_is_filled(tmp_path, monkeypatch, late):
    folder = tmp_path / "rows"
    rows = rows_in(folder)
    write = disk.write_tensors

    def cleared(*arguments, **_):
        if not late:
            shutil.rmtree(folder)
        write(*arguments)
        if late:
            shutil.rmtree(folder)

    monkeypatch.setattr(disk, "write_tensors", cleared)
    assert fill(rows, 0, 1) == [0, 1]
    assert [key(n) in rows for n in (0, 1)] == [not late] * 2


def test_what_was_filled_before_an_interruption_is_kept(tmp_path):
    folder = tmp_path / "rows"

    def interrupted(rows: DiskRows) -> None:
        with rows.filling([key(n) for n in range(5)]):
            rows.add([key(0), key(1)], torch.stack([row(0), row(1)]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted(rows_in(folder))
    assert fill(rows_in(folder), *range(5)) == [2, 3, 4]


def test_what_a_killed_writer_left_is_removed(tmp_path):
    folder = tmp_path / "rows"
    fill(rows_in(folder), 0)
    left, fresh = folder / ".0123.safetensors.xyz.part", folder / ".4567.safetensors.xyz.part"
    for file in (left, fresh):
        file.write_bytes(b"half")
    os.utime(left, (0, time.time() - 2 * 60 * 60))
    fill(rows_in(folder), 1)
    assert not left.exists()
    # Somebody may be writing it, where there are no locks.
    assert fresh.exists()


@pytest.mark.usefixtures("small_files")
def test_files_not_used_for_longest_make_room(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    fill(rows_in(old), 0, 1, 2, 3, 4, 5)
    day = 24 * 60 * 60
    by_age = files(old)
    for age, file in enumerate(by_age):
        os.utime(file, (0, time.time() - (9 - age) * day))
    # One is used again, so that it is the newest.
    wanted = next(iter(set(rows_of(by_age[0]))))
    assert fill(rows_in(old), wanted) == []
    size = by_age[0].stat().st_size
    budget = 2 * size + 2 * (ROW_BYTES + 1024)
    assert fill(rows_in(new, budget), 10, 11) == [10, 11]
    assert files(old) == [by_age[0], by_age[2]]


def rows_of(file: Path) -> list[int]:
    from crumb.files import read_tensors

    keys = read_tensors(file, "")[0]["keys"]
    return [int.from_bytes(bytes(k), "big") for k in keys.numpy()]


def test_files_in_use_are_never_removed(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    rows = rows_in(old)
    fill(rows, 0, 1)
    # They fill the budget, so there is no room for others.
    assert fill(rows_in(new, 1100), 2) == []
    assert read(rows, 0, 1) == [True, True]
    del rows
    assert fill(rows_in(new, 1100), 3) == [3]
    assert not files(old)


@pytest.mark.usefixtures("small_files")
def test_files_in_use_count_whole(tmp_path):
    """One row of each file is wanted, and each holds another."""
    folder = tmp_path / "rows"
    fill(rows_in(folder), *range(8))
    size = files(folder)[0].stat().st_size
    wanted = [rows_of(file)[0] for file in files(folder)]
    rows = rows_in(folder, 4 * size + ROW_BYTES + 1024)
    assert fill(rows, *wanted, 20, 21) == [20]
    assert sum(file.stat().st_size for file in files(folder)) <= 4 * size + ROW_BYTES + 1024


def test_what_is_not_ours_is_left_alone(tmp_path):
    """Models of the user in the folder given for features."""
    model = tmp_path / "pretrained" / "pretrained.safetensors"
    model.parent.mkdir()
    model.write_bytes(bytes(5000))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "about.json").write_text("{}")
    (tmp_path / "other" / "x.safetensors").write_bytes(bytes(5000))
    assert fill(rows_in(tmp_path / "rows", 1100), 0) == [0]
    assert model.exists()
    assert (tmp_path / "other" / "x.safetensors").exists()


def test_a_file_that_cannot_be_read_is_not_removed(tmp_path, monkeypatch):
    folder = tmp_path / "rows"
    fill(rows_in(folder), 0)

    def denied(*_: object) -> None:
        raise InputError("x", "cannot be read", "") from PermissionError(13, "denied")

    monkeypatch.setattr(disk, "read_tensors", denied)
    assert fill(rows_in(folder), 0, 1) == [0, 1]
    monkeypatch.undo()
    assert len(files(folder)) == 2


def test_a_file_that_cannot_be_removed_is_left(tmp_path, monkeypatch):
    old, new = tmp_path / "old", tmp_path / "new"
    fill(rows_in(old), 0)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "denied")

    monkeypatch.setattr(Path, "unlink", denied)
    assert fill(rows_in(new, 1100), 1) == [1]
    assert len(files(old)) == 1


def test_a_folder_says_what_it_is(tmp_path):
    DiskRows(tmp_path / "rows", {"what": "maps"}, SHAPE, torch.float32, 1 << 20)
    about = json.loads((tmp_path / "rows" / "about.json").read_text())
    assert about == {"format": "crumb-rows", "version": 1, "what": "maps"}


# The choice of a place.


class Numbers(store.Store):
    """The number in each file."""

    what = "numbers"

    def compute(self, paths):
        assert len(paths) <= self.at_once
        return torch.stack([row(int((self._images / path).read_text())) for path in paths])

    def fingerprint(self):
        return "x"


@pytest.fixture
def numbers(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(9):
        (images / str(number)).write_text(str(number))
    return Numbers(images, SHAPE, torch.float32, torch.device("cpu"), 1)


def names(count: int = 9) -> list[str]:
    return [str(number) for number in range(count)]


def expected() -> Tensor:
    return torch.stack([row(number) for number in range(9)])


@pytest.mark.parametrize("kind", ["auto", "disk"])
def test_a_folder_that_cannot_be_written(numbers, tmp_path, kind):
    blocked = tmp_path / "file"
    blocked.write_text("")
    cache = Cache(kind, 1 << 20, blocked / "folder")
    if kind == "disk":
        with pytest.raises(InputError, match="file/folder.*feature_cache='memory'"):
            numbers.hold(names(), cache)
        return
    numbers.hold(names(), cache)
    assert numbers.bytes_held == 9 * ROW_BYTES
    assert torch.equal(numbers.get(names()), expected())


@pytest.mark.parametrize("kind", ["auto", "disk"])
def test_a_disk_without_room(numbers, tmp_path, kind, monkeypatch):
    usage = type("Usage", (), {"free": 9 * (ROW_BYTES + 1024) - 1})
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage)
    cache = Cache(kind, 1 << 20, tmp_path / "cache")
    if kind == "disk":
        with pytest.raises(InputError, match="9,431 bytes free, 9,432 needed; free space"):
            numbers.hold(names(), cache)
        return
    numbers.hold(names(), cache)
    assert not list(tmp_path.glob("cache/*/*.safetensors"))
    assert torch.equal(numbers.get(names()), expected())


def test_files_make_room_on_a_full_disk(tmp_path, monkeypatch):
    old = tmp_path / "old"
    fill(rows_in(old), 0)
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage)
    (file,) = files(old)
    with pytest.raises(InputError, match="bytes free, 1,048 needed"):
        fill(rows_in(tmp_path / "new"), 1)
    assert not file.exists()


def test_an_image_that_changes_while_it_is_read(numbers, tmp_path, monkeypatch):
    compute = Numbers.compute

    def late(self, paths):
        (tmp_path / "images" / "3").write_text("9")
        return compute(self, paths)

    monkeypatch.setattr(Numbers, "compute", late)
    with pytest.raises(InputError, match="images/3: changed while it was read"):
        numbers.hold(names(), Cache("disk", 1 << 20, tmp_path / "cache"))


def test_a_disk_that_fills_up_is_one_line(numbers, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cache = Cache("disk", 1 << 20, tmp_path / "cache")
    numbers.hold(names(2), cache)
    monkeypatch.setattr("crumb.files.os.fsync", full)
    with pytest.raises(InputError, match="No space left on device.*feature_cache_folder"):
        numbers.hold(names(), cache)
    monkeypatch.undo()
    assert not list((tmp_path / "cache").glob("*/.*"))
    # What was written before still is there.
    again = Numbers(numbers._images, SHAPE, torch.float32, torch.device("cpu"), 1)
    again.hold(names(), cache)
    assert torch.equal(again.get(names()), expected())


def test_a_row_that_cannot_be_read_is_computed(numbers, tmp_path):
    numbers.hold(names(), Cache("disk", 1 << 20, tmp_path / "cache"))
    for file in (tmp_path / "cache").glob("*/*.safetensors"):
        file.unlink()
    assert torch.equal(numbers.get(names()), expected())


def test_a_changed_image_is_another_image(numbers, tmp_path):
    cache = Cache("disk", 1 << 20, tmp_path / "cache")
    numbers.hold(names(), cache)
    (tmp_path / "images" / "1").write_text("7")
    again = Numbers(numbers._images, SHAPE, torch.float32, torch.device("cpu"), 1)
    again.hold(names(), cache)
    assert torch.equal(again.get(["1"])[0], row(7))


def test_memory_is_not_taken_beyond_half_of_the_machines(numbers, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(store, "_machine_memory", lambda: 2 * 3 * ROW_BYTES)
    numbers.hold(names(), Cache("auto", 1 << 20, blocked))
    assert numbers.bytes_held == 3 * ROW_BYTES
    assert torch.equal(numbers.get(names()), expected())
