"""Images inside tar files: what is read, what is refused, and how much is kept open."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from class_trees import picture, write_tar
from hypothesis import given, settings
from hypothesis import strategies as st

from crumb.data import shards
from crumb.data.images import load_image
from crumb.data.pictures import check_image_file
from crumb.data.shards import member_size, members, open_image
from crumb.errors import InputError
from crumb.features.features import PixelStore
from crumb.features.store import Cache

NAME = "n01440764/x.JPEG"


def content_of(path: Path) -> bytes:
    with open_image(path) as file:
        return file.read()


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    files = [(f"n0{place}/x{place}.JPEG", picture(place * 20)) for place in range(8)]
    return write_tar(tmp_path / "train-000.tar", files)


def test_an_image_is_the_same_as_outside(tar: Path, tmp_path: Path):
    with tarfile.open(tar) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    for name in members(tar):
        inside, outside = tar / name, tmp_path / "out" / name
        assert content_of(inside) == content_of(outside) == outside.read_bytes()
        assert check_image_file(inside) == outside.stat().st_size
        assert torch.equal(load_image(inside, 16), load_image(outside, 16))
    assert len(members(tar)) == 8


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_formats_that_are_read_inside(tmp_path: Path, kind: str):
    tar = write_tar(tmp_path / "a.tar", [("a/b", picture(90, kind=kind))])
    pixels = load_image(tar / "a/b", 8)
    assert (pixels.float() - 90).abs().max() <= 2


def test_a_damaged_image_inside_is_named(tmp_path: Path):
    files = [("a/cut.png", picture(9, (64, 64), "PNG")[:-30]), ("a/none.png", b""), ("a/x", b"x")]
    tar = write_tar(tmp_path / "a.tar", files)
    for name, problem in (
        ("a/cut.png", "damaged image|cannot be read as an image"),
        ("a/none.png", r"cannot be read as an image \(it is empty\)"),
        ("a/x", r"cannot be read as an image \(unknown format\)"),
    ):
        with pytest.raises(InputError, match=rf"a\.tar/{name}: .*({problem})"):
            load_image(tar / name, 8)


def test_folders_whose_names_end_in_tar(tmp_path: Path):
    folder = tmp_path / "old.tar" / "more.tar"
    folder.mkdir(parents=True)
    (folder / "x.JPEG").write_bytes(picture(50))
    assert member_size(folder / "x.JPEG") is None
    assert content_of(folder / "x.JPEG") == picture(50)
    tar = write_tar(folder / "in.tar", [("b.tar/x.JPEG", b"inside")])
    assert content_of(tar / "b.tar/x.JPEG") == b"inside"


def test_a_plain_path_is_left_to_the_file_system(tmp_path: Path):
    assert member_size(tmp_path / "x.JPEG") is None
    with pytest.raises(FileNotFoundError):
        open_image(tmp_path / "x.JPEG")
    with pytest.raises(InputError, match=r"x\.JPEG: no such image"):
        check_image_file(tmp_path / "x.JPEG")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_forms_of_tar_files(tmp_path: Path, form: int):
    # More than 100 bytes of name, which each form writes in its own way.
    long = f"{'folder/' * 12}{'x' * 90}.JPEG"
    tar = write_tar(tmp_path / "a.tar", [(long, b"one"), ("./b/./c.JPEG", b"two")], form)
    assert [*members(tar)] == [long, "b/c.JPEG"]
    assert content_of(tar / long) == b"one"
    assert content_of(tar / "b/c.JPEG") == b"two"


def test_hidden_files_and_folders_are_no_members(tmp_path: Path):
    path = tmp_path / "a.tar"
    (tmp_path / "tree/b").mkdir(parents=True)
    for name in ("b/x.JPEG", "b/._x.JPEG", ".DS_Store"):
        (tmp_path / "tree" / name).write_bytes(b"x")
    with tarfile.open(path, "w:") as tar:
        tar.add(tmp_path / "tree", ".")
    assert [*members(path)] == ["b/x.JPEG"]


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.from_regex(r"[a-zé]{1,8}(/[a-z0-9 _é-]{0,90}[a-z]\.JPEG){1,2}", fullmatch=True),
        st.binary(max_size=1500),
        max_size=6,
    ),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_tar_file_reads_as_it_was_written(tmp_path_factory, files, form: int):
    files = {name: content for name, content in files.items() if "/ " not in name}
    path = tmp_path_factory.mktemp("any") / "a.tar"
    write_tar(path, files.items(), form)
    assert [*members(path)] == [*files]
    for name, content in files.items():
        assert content_of(path / name) == content
        assert member_size(path / name) == len(content)


@settings(max_examples=80)
@given(st.integers(0, 3071), st.binary(min_size=1, max_size=40))
def test_a_damaged_tar_file_ends_in_one_line_or_reads(tmp_path_factory, place: int, noise: bytes):
    path = write_tar(
        tmp_path_factory.mktemp("noise") / "a.tar", [("a/x", b"1"), ("a/y", b"2"), ("a/z", b"3")]
    )
    content = bytearray(path.read_bytes())
    content[place : place + len(noise)] = noise
    path.write_bytes(content)
    problem, found = "", {}
    try:
        found = {name: content_of(path / name) for name in members(path)}
    except InputError as error:
        problem = str(error)
    # Contents, of which a tar file has no check sum, may be others; members are not lost.
    assert len(found) == 3 or problem.startswith(f"{path}: ")


def cut(tar: Path, size: int) -> None:
    os.truncate(tar, size)


def last_content(tar: Path) -> int:
    return max(place.offset for place in members(tar).values())


@pytest.mark.parametrize(
    ("size", "problem"),
    [
        (lambda tar: last_content(tar) + 5, "is cut short"),
        (lambda tar: last_content(tar) - 300, "is cut short or damaged at byte"),
        # Between two members, where nothing but the missing end tells.
        (lambda tar: last_content(tar) - 512, "is cut short or damaged at byte"),
        (lambda tar: 100, "cut short, damaged or no tar file"),
        (lambda tar: 0, "cut short, damaged or no tar file"),
    ],
)
def test_a_tar_file_cut_short(tar: Path, size: Callable[[Path], int], problem: str):
    cut(tar, size(tar))
    for _ in range(2):
        with pytest.raises(InputError, match=rf"^{tar}: .*{problem}"):
            load_image(tar / "n00/x0.JPEG", 8)


def test_a_damaged_header_in_the_middle(tar: Path):
    content = bytearray(tar.read_bytes())
    place = members(tar)["n04/x4.JPEG"].offset - 512
    content[place : place + 4] = b"what"
    tar.write_bytes(content)
    with pytest.raises(InputError, match=f"is cut short or damaged at byte {place};"):
        members(tar)


def test_several_tar_files_in_one(tar: Path):
    tar.write_bytes(tar.read_bytes() * 2)
    with pytest.raises(InputError, match="goes on after its end"):
        members(tar)


@pytest.mark.parametrize(
    ("magic", "kind"),
    [
        (b"\x1f\x8b\x08", "gzip"),
        (b"BZh9", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
    ],
)
def test_compressed_tar_files(tmp_path: Path, magic: bytes, kind: str):
    path = tmp_path / "a.tar"
    path.write_bytes(magic + bytes(2000))
    with pytest.raises(InputError, match=rf"a\.tar: is compressed with {kind}; uncompress it"):
        members(path)


def test_what_is_no_tar_file(tmp_path: Path):
    with pytest.raises(
        InputError, match=r"none\.tar: cannot be read \(No such file or directory\)"
    ):
        load_image(tmp_path / "none.tar/a/x.JPEG", 8)
    with pytest.raises(InputError, match="is a folder"):
        members(tmp_path)
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(InputError, match="is not a tar file"):
        members(tmp_path / "pipe.tar")


def test_a_member_that_is_missing(tar: Path):
    for name in ("n00/x9.JPEG", "n00", "../train-000.tar"):
        with pytest.raises(InputError, match=rf"train-000\.tar: has no member '{name}'"):
            load_image(Path(f"{tar}/{name}"), 8)


@pytest.mark.parametrize(
    ("kind", "name", "problem"),
    [
        (tarfile.SYMTYPE, NAME, f"has the member '{NAME}', which is not a regular file"),
        (tarfile.LNKTYPE, NAME, "which is not a regular file"),
        (tarfile.FIFOTYPE, NAME, "which is not a regular file"),
        (tarfile.CHRTYPE, NAME, "which is not a regular file"),
        (tarfile.GNUTYPE_SPARSE, NAME, "which is not a regular file"),
        (tarfile.REGTYPE, "/etc/x.JPEG", "the path '/etc/x.JPEG' is absolute"),
        (tarfile.REGTYPE, "a/../../x.JPEG", "leaves the images root"),
        (tarfile.DIRTYPE, "../a", "leaves the images root"),
        (tarfile.REGTYPE, "a/x\n.JPEG", "holds a control character"),
        (tarfile.REGTYPE, "a/x.JPEG ", "begins or ends with a blank"),
    ],
)
def test_members_that_are_refused(tmp_path: Path, kind: bytes, name: str, problem: str):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w:", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("a/good.JPEG"))
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "a/good.JPEG"
        tar.addfile(member)
    with pytest.raises(InputError) as caught:
        members(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_twice(tmp_path: Path):
    tar = write_tar(tmp_path / "a.tar", [("a/x", b"1"), ("./a//x", b"2")])
    with pytest.raises(InputError, match="has the member 'a/x' twice; keep one of the two"):
        members(tar)


@pytest.mark.parametrize("size", [-1, -1536])
def test_a_size_below_nothing(tmp_path: Path, size: int):
    """As base-256 numbers allow; a reader that believes the larger never comes to the end."""
    path = write_tar(tmp_path / "a.tar", [("a/x", b"1"), ("a/y", b"2")])
    content = bytearray(path.read_bytes())
    header = content[1024:1536]
    header[124:136] = size.to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    content[1024:1536] = header
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tar: is damaged \(a member of negative size\)"):
        members(path)


def test_a_tar_file_that_is_replaced_is_scanned_again(tar: Path, tmp_path: Path):
    assert content_of(tar / "n03/x3.JPEG") == picture(60)
    new = write_tar(tmp_path / "new", [("n09/y.JPEG", b"other"), ("n03/x3.JPEG", b"three")])
    new.replace(tar)
    assert content_of(tar / "n03/x3.JPEG") == b"three"
    assert [*members(tar)] == ["n09/y.JPEG", "n03/x3.JPEG"]
    with pytest.raises(InputError, match="has no member 'n00/x0.JPEG'"):
        open_image(tar / "n00/x0.JPEG")


def test_a_tar_file_that_is_replaced_between_two_looks(tar: Path, tmp_path: Path, monkeypatch):
    new = write_tar(tmp_path / "new", [("n03/x3.JPEG", b"three")])
    original = shards._status

    def look(path: str) -> os.stat_result:
        status = original(path)
        if new.exists():
            new.replace(tar)
        return status

    monkeypatch.setattr(shards, "_status", look)
    with pytest.raises(InputError, match=r"train-000\.tar: changed while it was read; try again"):
        open_image(tar / "n03/x3.JPEG")
    assert content_of(tar / "n03/x3.JPEG") == b"three"


def test_a_broken_tar_file_that_is_mended_is_read(tar: Path):
    whole = tar.read_bytes()
    cut(tar, 700)
    with pytest.raises(InputError):
        members(tar)
    tar.write_bytes(whole)
    assert len(members(tar)) == 8


def test_headers_are_scanned_once_whatever_the_threads(tar: Path, monkeypatch: pytest.MonkeyPatch):
    scans = []
    original = shards._scan

    def count(path: Path):
        scans.append(path)
        return original(path)

    monkeypatch.setattr(shards, "_scan", count)
    names = [f"n0{place % 8}/x{place % 8}.JPEG" for place in range(400)]
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda name: content_of(tar / name), names)]
    assert found == [picture(place % 8 * 20) for place in range(400)]
    assert scans == [tar]


def open_files(folder: Path) -> int:
    links = Path("/proc/self/fd").iterdir()
    return sum(str(link.readlink()).startswith(str(folder)) for link in links if link.is_symlink())


@pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux lists them"
)
def test_open_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards, "_most_open", lambda: 3)
    tars = [
        write_tar(tmp_path / f"train-{number}.tar", [("a/x", bytes([number]) * 9)])
        for number in range(20)
    ]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            found = [*pool.map(lambda tar: content_of(tar / "a/x"), tars)]
            assert found == [bytes([number]) * 9 for number in range(20)]
            assert open_files(tmp_path) <= 3


def test_stores_hold_members(tar: Path, tmp_path: Path):
    paths = [f"{tar.name}/{name}" for name in members(tar)]
    store = PixelStore(tar.parent, 8, torch.device("cpu"), 2)
    store.hold(paths, Cache("memory", 1 << 20, tmp_path / "cache"))
    held = store.get(paths[::-1])
    greys = held.float().mean((1, 2, 3)).round().int().tolist()
    assert greys == [20 * place for place in range(8)][::-1]
    with pytest.raises(InputError, match="has no member 'n00/y.JPEG'"):
        store.hold([f"{tar.name}/n00/y.JPEG"], Cache("off", 0, tmp_path))
