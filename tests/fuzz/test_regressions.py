"""What fuzzing found, each input with the reader that it broke; and the targets themselves."""

import io
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fuzz.mutate import mutated
from fuzz.targets import TARGETS, Target

from crumb.errors import InputError
from fuzz import seeds

# To build these takes a second; they share their readers with others.
SLOW = {"learner", "pretrained", "checkpoint"}


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return {
        name: make(tmp_path_factory.mktemp(name))
        for name, make in TARGETS.items()
        if name not in SLOW
    }


def changed(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    return content.replace(old, new, 1)


def words(old: bytes, new: bytes) -> bytes:
    """Changed words about a learner."""
    whole = (
        b'{"version": 1, "method": "crumb", "config": {"blocks": 4, "block_length": 16}, '
        b'"network": {"backbone": "test_efficientnet", "cut": "blocks.4"}, '
        b'"seed": 0, "classes": ["bed", "car"], "outputs": 16}'
    )
    return changed(whole, old, new)


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


DATASET, RUN = seeds.dataset_json(), seeds.run_json()
LONG = b"1" * 400
FOUND = [
    ("json_file", b'{"a": "\\ud800"}'),
    ("toml", b"a = 0x" + b"f" * 4000),
    ("dataset", changed(DATASET, b"index.csv", b"\\u0000")),
    ("dataset", changed(DATASET, b'"images": "', b'"images": "\\u0000')),
    ("dataset", changed(DATASET, b"bed", b"\\udfff")),
    ("filelists", b"\x00/1.png 0\n--\n--\n"),
    ("filelists", LONG + b".png 0\n--\n--\n"),
    ("run_record", changed(RUN, b"1048576", b"{}")),
    ("run_record", changed(RUN, b"1048576", LONG)),
    ("run_record", changed(RUN, b"1048576", b"Infinity")),
    ("run_record", changed(RUN, b'1st_mem": 50.0', b'1st_mem": "car"')),
    ("run_record", changed(RUN, b'1st_mem": 50.0', b'1st_mem": null')),
    ("run_record", changed(RUN, b'"run": 0', b'"run": "0"')),
    ("run_record", changed(RUN, b'{"usage": 0.5}', b'{"usage": []}')),
    ("preset", b"[method]\nlr = " + LONG + b"\n"),
    ("preset", b'[stream]\noutput = "a\\u0000b"\n'),
    ("learner_description", words(b'"blocks.4"', b"-1")),
    ("learner_description", words(b'"test_efficientnet"', b"true")),
    ("learner_description", words(b'"seed": 0', b'"seed": -1')),
    ("learner_description", words(b"16}", b"1099511627776}")),
    ("learner_description", words(b'"bed"', b"1")),
    ("learner_description", b"[" * 100_000),
    ("learner_description", b"1" * 5000),
    ("weights_pth", saved(seeds.state() | {"0.weight": torch.ones(2, 3, 1, 1).to_sparse()})),
    ("weights_header", seeds.headers()[2]),
]


@pytest.mark.parametrize(("name", "content"), FOUND, ids=[name for name, _ in FOUND])
def test_found(targets: dict[str, Target], name: str, content: bytes):
    assert isinstance(targets[name].check(content), InputError)


def test_a_pickle_whose_tensor_has_no_storage(targets: dict[str, Target]):
    (pickled,) = targets["weights_pickle"].seeds
    assert targets["weights_pickle"].check(changed(pickled, b"tq\x07Q", b"tq\x07"))


def test_a_clip_whose_time_stamps_jump(targets: dict[str, Target], tmp_path: Path):
    jumps = seeds.video(tmp_path / "a.mkv", "libx264", [0, 1, 10_000_000])
    assert targets["video"].check(jumps) is None


def test_a_clip_of_an_unknown_format(targets: dict[str, Target], tmp_path: Path):
    clip = seeds.video(tmp_path / "a.avi", "mpeg4", range(3))
    error = targets["video"].check(clip.replace(b"FMP4", b"\x00\x01\x02\x03"))
    assert "unknown format" in str(error)


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - SLOW))
def test_targets(targets: dict[str, Target], name: str):
    """Good inputs are taken, and a little damage of every kind ends in one line or in none."""
    target = targets[name]
    refused = [target.check(content) for content in target.seeds]
    assert None in refused
    draw = random.Random(0)
    for _ in range(20):
        target.check(mutated(target.seeds, draw, target.largest))


def test_a_crash_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from fuzz import __main__ as runner

    def break_at_once(content: bytes) -> None:
        raise KeyError(content)

    monkeypatch.setattr(runner, "_CRASHES", tmp_path)
    monkeypatch.setitem(TARGETS, "text", lambda folder: Target(break_at_once, [b"abc"]))
    with pytest.raises(KeyError) as raised:
        runner._mutate("text", 60, 7, tmp_path)
    (kept,) = tmp_path.iterdir()
    assert raised.value.args == (kept.read_bytes(),)


def test_the_command(tmp_path: Path):
    words = [sys.executable, "-m", "fuzz", "--seconds", "1", "no_such_target"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "run_record" in done.stderr
