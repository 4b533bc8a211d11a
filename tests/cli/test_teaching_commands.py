"""learn, teach, predict, forget and info, on real clips and a tiny network."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import wave
from pathlib import Path

import av
import pytest

from crumb.cli.learn import Learn
from crumb.cli.main import main
from crumb.cli.stream import last_model
from crumb.data import camera as cameras
from crumb.files import read_tensors, write_tensors
from crumb.methods.persistence import load_learner as load


@pytest.fixture(scope="module")
def folder(clips, tmp_path_factory):
    """Two clips of each of three classes, and others to ask about."""
    root = tmp_path_factory.mktemp("own")
    for part in ("shown", "asked"):
        for name in ("bed", "bottle", "car"):
            (root / part / name).mkdir(parents=True)
    for path in sorted(clips.rglob("*.mp4")):
        name, session = path.stem.split("_")[0], path.stem.split("_")[-1]
        if name in ("bed", "bottle", "car"):
            if session in ("rxplus", "ryplus"):
                shutil.copy(path, root / "shown" / name)
            elif session == "tx":
                shutil.copy(path, root / "asked" / name)
        elif session == "tx":
            shutil.copy(path, root / "person.mp4")
    return root


@pytest.fixture(scope="module")
def learned(folder, network_words, tmp_path_factory):
    """A model, and what learning it printed."""
    model = tmp_path_factory.mktemp("model") / "own.crumb"
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", output)
        assert main(["learn", str(folder / "shown"), "--output", str(model), *network_words]) == 0
    return model, output.getvalue()


@pytest.fixture
def model(learned, tmp_path):
    return shutil.copy(learned[0], tmp_path / "own.crumb")


def test_learn_prints_what_was_learned_and_what_is_next(learned):
    model, printed = learned
    lines = printed.splitlines()
    head = next(line for line in lines if line.startswith("class"))
    assert head.split("  ")[0] == "class"
    for name in ("bed", "bottle", "car"):
        row = next(line for line in lines if line.startswith(name)).split()
        assert row[1] == "2"
        assert int(row[2]) > 8
    assert "of held-out clips" in printed
    assert f"model: {model}" in printed
    assert lines[-1] == f"next: crumb predict {model} CLIP"
    learner = load(model, "cpu")
    assert learner.name == "slda"
    held = learner.bytes_held()
    assert held.replay + held.extra <= 64_000


def test_learning_twice_gives_the_same_file(learned, folder, network_words, tmp_path):
    again = tmp_path / "again.crumb"
    assert main(["learn", str(folder / "shown"), "--output", str(again), *network_words]) == 0
    assert again.read_bytes() == learned[0].read_bytes()


def test_one_clip_of_each_class_is_enough(folder, network_words, tmp_path, capsys):
    for name in ("bed", "car"):
        (tmp_path / "one" / name).mkdir(parents=True)
        shutil.copy(min((folder / "shown" / name).iterdir()), tmp_path / "one" / name)
    model = tmp_path / "m.crumb"
    assert main(["learn", str(tmp_path / "one"), "--output", str(model), *network_words]) == 0
    printed = capsys.readouterr().out
    assert "they are the end of the only clip" in printed
    assert main(["predict", str(model), str(folder / "asked" / "car")]) == 0


def test_predict_answers_a_line_for_each_clip(model, folder, capsys):
    assert main(["predict", str(model), str(folder / "asked")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for name, line in zip(("bed", "bottle", "car"), lines, strict=True):
        assert f"/{name}/" in line.partition(": ")[0]
        assert line.partition(": ")[2].split()[0] in ("bed", "bottle", "car")
        assert " %" in line


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_predict_writes_frames_for_programs(model, folder, capsys, form):
    words = ["predict", str(model), str(folder / "asked" / "car"), "--frames", "--format", form]
    assert main(words) == 0
    printed = capsys.readouterr().out
    rows = list(csv.DictReader(io.StringIO(printed))) if form == "csv" else []
    if form == "jsonl":
        rows = [json.loads(line) for line in printed.splitlines()]
    assert [int(row["second"]) for row in rows] == list(range(len(rows)))
    assert len(rows) > 3
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)
    assert {row["class"] for row in rows} <= {"bed", "bottle", "car"}


def test_predict_says_unknown_only_where_it_is_asked_to(model, folder, capsys):
    words = ["predict", str(model), str(folder / "person.mp4"), "--format", "jsonl"]
    assert main(words) == 0
    nearest = json.loads(capsys.readouterr().out)
    assert nearest["class"] in ("bed", "bottle", "car")
    # The class that it is nearest to stays in the answer.
    assert main([*words, "--unknown-share", "0.9999"]) == 0
    unknown = json.loads(capsys.readouterr().out)
    assert (unknown["class"], unknown["probability"]) == ("unknown", None)
    assert unknown["runner_up"] == nearest["class"]
    assert unknown["its_probability"] == nearest["probability"]
    assert main([*words[:-2], "--unknown-share", "0.9999"]) == 0
    share = f"{100 * nearest['probability']:.0f}"
    assert capsys.readouterr().out.endswith(f": unknown, nearest {nearest['class']} {share} %\n")


def test_predict_draws_into_a_clip(model, folder, tmp_path, capsys):
    clip = next((folder / "asked" / "car").iterdir())
    drawn = tmp_path / "drawn.mp4"
    assert main(["predict", str(model), str(clip), "--annotate", str(drawn)]) == 0
    capsys.readouterr()
    assert main(["predict", str(model), str(clip), "--frames", "--format", "jsonl"]) == 0
    seconds = len(capsys.readouterr().out.splitlines())
    with av.open(str(drawn)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == seconds
    # The bar at the foot is dark, with light letters in it.
    foot = frames[0].to_ndarray(format="gray")[-30:, :150]
    assert foot.max() > 200
    assert foot.mean() < 150


def test_teach_shows_what_was_known_before_and_after_and_can_be_undone(model, folder, capsys):
    before = model.read_bytes()
    assert main(["teach", str(model), "person", str(folder / "person.mp4")]) == 0
    printed = capsys.readouterr().out
    assert "taught person (a new class)" in printed
    rows = [line.split() for line in printed.splitlines() if line.count(" ") > 4]
    before_and_after = {row[0]: row[1:] for row in rows if row[0] in ("bed", "bottle", "car")}
    assert len(before_and_after) == 3
    assert all(0 <= int(share) <= 100 for pair in before_and_after.values() for share in pair)
    assert load(model, "cpu").classes == ["bed", "bottle", "car", "person"]
    assert main(["predict", str(model), str(folder / "person.mp4"), "--format", "jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["class"] == "person"
    assert main(["info", str(model)]) == 0
    printed = capsys.readouterr().out
    assert "person" in printed
    assert "To undo the last lesson" in printed
    assert main(["teach", str(model), "--undo"]) == 0
    assert model.read_bytes() == before


def test_forget_takes_a_class_out(model, folder, capsys):
    assert main(["forget", str(model), "bottle"]) == 0
    assert "classes left: bed, car" in capsys.readouterr().out
    assert load(model, "cpu").classes == ["bed", "car"]
    assert main(["predict", str(model), str(folder / "asked" / "bottle")]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    answer = line.partition(".mp4: ")[2]
    assert answer
    assert "bottle" not in answer


def test_info_says_what_a_model_is(learned, capsys):
    assert main(["info", str(learned[0])]) == 0
    printed = capsys.readouterr().out
    for words in ("slda", "test_efficientnet", "bytes beside the network", "temperature"):
        assert words in printed


def test_a_camera_is_watched_until_it_is_interrupted(model, folder, capsys, monkeypatch):
    clip = next((folder / "asked" / "car").iterdir())

    def filmed(name):
        with av.open(str(clip)) as container:
            for number, frame in enumerate(cameras.one_a_second(container)):
                if number == 3:
                    signal.raise_signal(signal.SIGINT)
                yield frame

    monkeypatch.setattr(cameras, "frames_of_camera", filmed)
    assert main(["predict", str(model), "camera:0", "--format", "jsonl"]) == 130
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["second"] for row in rows] == [0, 1, 2]
    assert {row["source"] for row in rows} == {"camera:0"}


def damaged(path):
    path.write_bytes(path.read_bytes()[:-1])
    return "own.crumb"


def other_version(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(b'\\"version\\": 1', b'\\"version\\": 9'))
    return "format version 9"


def other_backbone(path):
    path.write_bytes(path.read_bytes().replace(b"test_efficientnet", b"test_efficientnex"))
    return "test_efficientnex"


def missing(path):
    path.unlink()
    return "own.crumb"


def misshapen(path):
    tensors, meta = read_tensors(path, "")
    tensors["moments.means"] = tensors["moments.means"][:, :-1]
    write_tensors(path, tensors, meta)
    return "own.crumb: is damaged (moments.means"


@pytest.mark.parametrize("spoil", [misshapen, damaged, other_version, other_backbone, missing])
@pytest.mark.parametrize("command", ["teach", "predict", "forget", "info"])
def test_a_model_that_cannot_be_used_is_refused(refused, model, folder, tmp_path, spoil, command):
    names = spoil(model)
    words = {"teach": ["x", folder / "person.mp4"], "predict": [folder / "person.mp4"]}
    words["forget"] = ["bed"]
    refused(command, model, *words.get(command, []), names=names, at=tmp_path)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["teach", "MODEL", "x", "missing.mp4"], "missing.mp4"),
        (["teach", "MODEL", "x", "BROKEN"], "broken.mp4"),
        (["teach", "MODEL", "x", "SOUND"], "sound.mp4"),
        (["predict", "MODEL", "SOUND"], "sound.mp4"),
        (["teach", "MODEL", "x", "TEXT"], "neither a video nor an image"),
        (["teach", "MODEL", "x"], "clips are missing"),
        (["teach", "MODEL", "--undo"], "no lesson"),
        (["teach", "MODEL", "unknown", "BROKEN"], "unknown"),
        (["teach", "MODEL", "x\ny", "BROKEN"], "cannot be seen"),
        (["teach", "MODEL", " ", "BROKEN"], "is blank"),
        (["teach", "MODEL", "x", "BROKEN", "--undo"], "leave them out"),
        (["forget", "MODEL", "unicorn"], "unicorn"),
        (["predict", "MODEL", "BROKEN"], "broken.mp4"),
        (["predict", "MODEL", "EMPTY"], "holds no videos"),
        (["predict", "MODEL", "camera:77"], "camera:77"),
        (["predict", "MODEL", "camera:x"], "is not a camera"),
        (["predict", "MODEL", "camera:0", "BROKEN"], "cannot be combined with files"),
        (["predict", "MODEL", "BROKEN", "--unknown-share", "2"], "--unknown-share 2"),
        (["predict", "MODEL", "camera:0", "--annotate", "OUT"], "single clip"),
        (["predict", "MODEL", "BROKEN", "--annotate", "EMPTY"], "is a folder"),
        (["predict", "MODEL", "BROKEN", "--annotate", "OUT"], "broken.mp4"),
        (["predict", "MODEL", "BROKEN", "--annotate", "BROKEN"], "broken.mp4: exists"),
        (["predict", "MODEL", "BROKEN", "--annotate", "MODEL"], "own.crumb: exists"),
        (["predict", "MODEL", "BROKEN", "--annotate", "TEXT"], "note.txt: exists"),
    ],
)
def test_bad_input_ends_in_one_line(refused, model, tmp_path, words, names):
    places = {"MODEL": model, "BROKEN": tmp_path / "broken.mp4", "EMPTY": tmp_path / "empty"}
    places |= {"TEXT": tmp_path / "note.txt", "OUT": tmp_path / "out.mp4"}
    places["BROKEN"].write_bytes(b"no video at all")
    places["TEXT"].write_text("words")
    places["SOUND"] = tmp_path / "sound.mp4"
    with wave.open(str(places["SOUND"]), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16_000))
    places["EMPTY"].mkdir()
    refused(*[places.get(word, word) for word in words], names=names, at=tmp_path)


def test_learn_refuses_before_it_works(refused, folder, network_words, tmp_path, monkeypatch):
    shown = folder / "shown"
    refused("learn", tmp_path / "nothing", *network_words, names="nothing", at=tmp_path)
    one = tmp_path / "one" / "bed"
    shutil.copytree(shown / "bed", one)
    refused(
        "learn", tmp_path / "one", "--output", tmp_path / "m", names="single class", at=tmp_path
    )
    refused("learn", shown, "--output", tmp_path, names="is a folder", at=tmp_path)
    refused("learn", shown, "--method", "lwf", "--output", tmp_path / "m", names="lwf", at=tmp_path)
    (tmp_path / "notes.txt").write_text("words")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("notes.txt", "link"):
        existing = tmp_path / name
        refused("learn", shown, "--output", existing, names=f"{name}: exists", at=tmp_path)
    for name, why in (("unknown", "no class"), ("-x", "flag"), ("a\u200bb", "cannot be seen")):
        odd = tmp_path / f"odd{len(why)}"
        shutil.copytree(shown / "bed", odd / name)
        shutil.copytree(shown / "car", odd / "car")
        refused("learn", odd, "--output", tmp_path / "m", names=why, at=tmp_path)
    words = ["learn", shown, "--method", "er", "--write-policy", "end-of-task"]
    words += ["--output", tmp_path / "m", *network_words]
    refused(*words, names="--write-policy end-of-task", at=tmp_path)
    words = ["learn", shown, "--output", tmp_path / "m", "--budget-bytes", "20"]
    refused(*words, *network_words, names="--budget-bytes 20", at=tmp_path)


@pytest.mark.parametrize(
    ("folder", "model"), [("my.videos", "my.videos.crumb"), ("v1.2", "v1.2.crumb")]
)
def test_a_model_has_the_whole_name_of_its_folder(tmp_path, folder, model):
    (tmp_path / folder).mkdir()
    assert Learn(root=tmp_path / folder).model == Path(model)
    (tmp_path / "list.csv").touch()
    assert Learn(root=tmp_path / "list.csv").model == Path("list.crumb")


def test_a_copy_of_a_clip_is_not_held_back(folder, network_words, tmp_path, capsys):
    for name in ("bed", "car"):
        (tmp_path / "two" / name).mkdir(parents=True)
        clip = min((folder / "shown" / name).iterdir())
        for number in (1, 2):
            shutil.copy(clip, tmp_path / "two" / name / f"{number}.mp4")
    words = ["learn", str(tmp_path / "two"), "--output", str(tmp_path / "m"), *network_words]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "note: 2 of the held-out files are the same as others" in printed
    assert "Nothing was held out" in printed
    assert "accuracy looks better" not in printed
    assert load(tmp_path / "m", "cpu").reach is None


def test_a_learner_of_a_plain_stream_can_be_taught(words, network_words, tmp_path, folder, capsys):
    """crumb is its default method, and stores its exemplars when a task is over."""
    streamed = ["stream", *words, "--runs", "1", "--epochs-first-task", "1"]
    assert main([*streamed, "--output", str(tmp_path / "out"), "--save-tasks"]) == 0
    model = tmp_path / "out" / "learner_run0.safetensors"
    lines = capsys.readouterr().out.splitlines()
    assert {f"model: {model}", f"next: crumb predict {model} CLIP"} <= {*lines}
    assert main(["teach", str(model), "new", str(folder / "person.mp4")]) == 0
    assert "taught new (a new class)" in capsys.readouterr().out
    assert main(["predict", str(model), str(folder / "person.mp4")]) == 0


def test_the_model_of_a_stream_is_that_of_the_last_run_at_its_end(tmp_path):
    assert last_model(tmp_path) is None
    names = ["run9", "run10", "run10_task01", "run2_task12", "run11_task03"]
    for name in names:
        (tmp_path / f"learner_{name}.safetensors").touch()
    assert last_model(tmp_path) == tmp_path / "learner_run10.safetensors"
