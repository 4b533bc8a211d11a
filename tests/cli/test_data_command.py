"""`crumb data`: the data sets there are, whether one is whole, and a picture of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from crumb.cli.main import main
from crumb.data.index import Dataset
from crumb.data.sets.registry import sources
from crumb.data.sets.toybox import Toybox

Refused = Callable[..., str]


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["data", *map(str, words)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.fixture
def published(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small data set counts as the whole of it."""
    counts = {"images per class": 30, "images per session": 3, "sessions in all": 40}
    monkeypatch.setattr(Toybox, "published", counts)
    monkeypatch.setattr(Toybox, "published_classes", tuple(dataset.class_names.values()))


# crumb data list


def test_all_data_sets_are_listed(capsys):
    listed = printed(capsys, "list")
    for name, source in sources().items():
        assert f"\n{name} " in f"\n{listed}"
        if about := source.about:
            for fact in (about.content, about.size, about.licence, about.page):
                assert fact in listed


@pytest.mark.parametrize("name", sources())
def test_one_data_set_is_told_in_whole(capsys, name: str):
    told = " ".join(printed(capsys, "list", name).split())
    source = sources()[name]
    if about := source.about:
        for fact in (about.title, about.content, about.size, about.licence, about.page):
            assert " ".join(fact.split()) in told
        assert " ".join(about.download.split()) in told
    for what, count in source.published.items():
        assert f"{count:,} {what}" in told
    for class_name in source.published_classes[:30]:
        assert class_name in told
    assert f"crumb index {name} ROOT" in told


def test_only_so_many_classes_are_told(capsys, monkeypatch):
    monkeypatch.setattr(Toybox, "published_classes", tuple(f"c{n}" for n in range(1000)))
    told = printed(capsys, "list", "toybox")
    assert "1,000: c0, c1" in told
    assert "c29 and 970 more" in told
    assert "c30" not in told


# crumb data check


@pytest.mark.usefixtures("published")
def test_a_whole_data_set_passes(capsys, dataset: Dataset):
    lines = printed(capsys, "check", "toybox", dataset.folder).splitlines()
    assert [line.split() for line in lines[2:]] == [
        ["images", "per", "class", "30", "30"],
        ["images", "per", "session", "3", "3"],
        ["sessions", "in", "all", "40", "40"],
        ["published", "classes", "4", "4"],
        ["image", "files", "120", "120"],
    ]


@pytest.mark.usefixtures("published")
def test_every_image_is_read_on_request(capsys, dataset: Dataset):
    words = ("check", "toybox", dataset.folder, "--decode", "--workers", 2)
    last = printed(capsys, *words).splitlines()[-1]
    assert last.split() == ["readable", "images", "120", "120"]


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[str, str]:
    """What is printed, and the one line."""
    assert main(["data", "check", *map(str, words)]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("crumb: ")
    return captured.out, line


def test_other_counts_are_told_one_by_one(capsys, dataset: Dataset):
    table, line = fails(capsys, "toybox", dataset.folder)
    rows = [row.split() for row in table.splitlines()]
    assert ["images", "per", "class", "4,350", "30", "differs"] in rows
    assert ["images", "per", "session", "15", "3", "differs"] in rows
    assert ["sessions", "per", "object", "10", "10"] in rows
    assert ["published", "classes", "12", "1", "differs"] in rows
    assert ["other", "classes", "0", "3", "differs"] in rows
    assert "differs from the published counts in images per class, images per session," in line
    assert "sessions per object" not in line
    assert "crumb data list toybox" in line


@pytest.mark.usefixtures("published")
def test_counts_that_vary_are_told_with_their_range(capsys, dataset_copy: Path):
    index = dataset_copy / "toybox_dirmap.csv"
    index.write_text("".join(index.read_text().splitlines(keepends=True)[:-1]))
    table, line = fails(capsys, "toybox", dataset_copy)
    assert "29 to 30" in table
    assert "published counts in images per class, images per session;" in line


@pytest.mark.usefixtures("published")
def test_missing_images_are_counted_and_named(capsys, dataset: Dataset, dataset_copy: Path):
    paths = list(dataset.index["im_path"])
    for path in paths[4:10]:
        (dataset_copy / "images" / path).unlink()
    (dataset_copy / "images" / paths[1]).write_bytes(b"")
    table, line = fails(capsys, "toybox", dataset_copy, "--decode")
    assert ["image", "files", "120", "113", "differs"] in [r.split() for r in table.splitlines()]
    assert f"{paths[1]}: is empty\n" in table
    assert f"{paths[4]}: no such image\n" in table
    assert table.endswith("and 2 more\n")
    assert paths[8] not in table
    # Those are not reported as broken as well.
    assert ["readable", "images", "113", "113"] in [row.split() for row in table.splitlines()]
    assert f"lacks 7 image files (first {paths[1]});" in line


@pytest.mark.usefixtures("published")
def test_broken_images_are_found_by_reading(capsys, dataset: Dataset, dataset_copy: Path):
    path = dataset.index["im_path"][7]
    image = dataset_copy / "images" / path
    image.write_bytes(image.read_bytes()[:-40])
    printed(capsys, "check", "toybox", dataset_copy)
    table, line = fails(capsys, "toybox", dataset_copy, "--decode", "--workers", "1")
    assert ["readable", "images", "120", "119", "differs"] in [
        row.split() for row in table.splitlines()
    ]
    assert f"{path}: " in table
    assert f"has 1 broken image ({path});" in line


def test_a_data_set_of_another_name(refused: Refused, dataset: Dataset, monkeypatch):
    class Other(Toybox):
        name = "other"

    known = {"other": Other, **sources()}
    monkeypatch.setattr("crumb.cli.data.sources", lambda: known)
    names = (str(dataset.folder), "'toybox', not 'other'")
    refused("data", "check", "other", dataset.folder, names=names)


# crumb data show


def test_a_picture_is_drawn(capsys, dataset: Dataset, tmp_path: Path):
    path = tmp_path / "new" / "sheet.png"
    words = ("show", dataset.folder, "--output", path, "--columns", 3)
    assert printed(capsys, *words) == f"picture: {path}\n"
    with Image.open(path) as image:
        assert image.format == "PNG"
        all_classes = image.height
    printed(capsys, *words, "--classes", "car", "bed")
    with Image.open(path) as image:
        assert image.height < all_classes


def test_what_a_picture_leaves_out_is_said(capsys, dataset: Dataset, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("crumb.reports.contact_sheet.MAX_ROWS", 3)
    told = printed(capsys, "show", dataset.folder, "--output", tmp_path / "sheet.png")
    assert told.startswith(
        "3 of 4 classes are shown, evenly spaced; choose others with --classes\n"
    )


def test_a_missing_image_ends_in_one_line(refused: Refused, dataset_copy: Path, tmp_path: Path):
    shutil.rmtree(dataset_copy / "images")
    path = tmp_path / "sheet.png"
    refused("data", "show", dataset_copy, "--output", path, names="no such image", at=path)


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--columns", "0"], "--columns 0"),
        (["--columns", "101"], "--columns 101"),
        (["--columns", "x"], "columns"),
        (["--classes", "dragon"], ("--classes", "dragon")),
        (["--classes", "car", "car"], "twice"),
        (["--classes"], "has no value"),
    ],
    ids=" ".join,
)
def test_flags_of_the_picture(refused: Refused, dataset: Dataset, tmp_path: Path, flags, names):
    path = tmp_path / "sheet.png"
    refused("data", "show", dataset.folder, "--output", path, *flags, names=names, at=path)


# The command.


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], "crumb data: the action is missing; see crumb data --help"),
        (["chek"], ("crumb data chek", "give list, check, stats, show")),
        (["check"], "NAME and FOLDER are missing; see crumb data check --help"),
        (["check", "toybx", "x"], "did you mean toybox"),
        (["list", "toybx"], "did you mean toybox"),
        (["list", "toybox", "core50"], "see crumb data list --help"),
        (["check", "toybox", "no-such-folder"], "no-such-folder"),
        (["check", "toybox", "x", "--workers", "0"], "--workers 0"),
        (["stats"], "DATASET is missing; see crumb data stats --help"),
        (["show", "x"], "--output"),
        (["show", "x", "--output", "sheet.jpg"], "x: is not a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_done(refused: Refused, words: list[str], names):
    refused("data", *words, names=names)


def test_other_formats_of_pictures_are_refused(refused: Refused, dataset: Dataset, tmp_path: Path):
    path = tmp_path / "sheet.jpg"
    refused("data", "show", dataset.folder, "--output", path, names=".png", at=path)


@pytest.mark.parametrize("action", ["list", "check", "stats", "show"])
def test_help_of_every_action(capsys, action: str):
    assert action in printed(capsys, "--help")
    assert f"crumb data {action}" in printed(capsys, action, "--help")
