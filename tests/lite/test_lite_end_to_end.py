"""From sample clips to a device and back, with a real network."""

from __future__ import annotations

import csv
import io
import shutil

import numpy as np

from crumb.cli.main import main
from crumb_lite import load


def test_a_model_goes_to_a_device_learns_there_and_comes_back(
    clips, network_words, tmp_path, capsys
):
    bed, bottle, car = (
        clips.joinpath(group, f"{name}_01_pivothead", f"{name}_01_pivothead_tx.mp4")
        for group, name in (("households", "bed"), ("households", "bottle"), ("vehicles", "car"))
    )
    for name, clip in (("bed", bed), ("bottle", bottle)):
        (tmp_path / "videos" / name).mkdir(parents=True)
        shutil.copy(clip, tmp_path / "videos" / name)
    model, device = tmp_path / "own.crumb", tmp_path / "device"
    words = ["learn", str(tmp_path / "videos"), "--output", str(model), "--no-hold-back"]
    assert main([*words, *network_words]) == 0
    assert main(["export", str(model), "--output", str(device)]) == 0
    asked = [bed, bottle, car]

    def told(source):
        capsys.readouterr()
        assert main(["predict", str(source), *map(str, asked), "--format", "csv"]) == 0
        rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
        return [(row["class"], float(row["probability"])) for row in rows]

    lite = load(device, threads=1)
    before = told(model)
    assert lite.predict(asked) == [name for name, _ in before]
    chances = lite.probabilities(asked).max(1)
    np.testing.assert_allclose(chances, [chance for _, chance in before], atol=2e-4)

    assert lite.observe(car, "car") > 8
    lite.save()
    after = told(device)
    assert after[2][0] == "car"
    assert lite.predict(asked) == [name for name, _ in after]
    chances = lite.probabilities(asked).max(1)
    np.testing.assert_allclose(chances, [chance for _, chance in after], atol=2e-4)
    assert main(["teach", str(device), "car", str(car)]) == 0
    assert "taught car (known before)" in capsys.readouterr().out
