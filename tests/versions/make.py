"""Writes the files of the present format versions: ``python -m tests.versions.make NUMBER``."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from crumb import create
from crumb.data.index import Dataset, write_dataset
from crumb.data.protocol import Frames, TaskList
from crumb.methods.base import Learner
from crumb.stream.checkpoint import Checkpoints, State
from crumb.stream.record import PATHS, TESTS, RunRecord, Score
from crumb.stream.results import Results

CLASSES = ("bed", "car")
SETTINGS = {"stream": {"runs": 1, "batch_size": 3}, "network": {"backbone": "tiny"}}


def main(number: str) -> None:
    """Write the folder of a version, which must not be there yet."""
    folder = Path(__file__).parent / number
    folder.mkdir()
    learner = trained_learner()
    learner.save(folder / "learner.safetensors")
    state = State(record(), task=1, epoch=0, batch=1, best_accuracy=50.0, best_epoch=1)
    Checkpoints(folder, tasks()).save(learner, state)
    results = Results(folder / "results", SETTINGS)
    with results:
        results.add(record())
    write_images(folder / "set")
    (folder / "expected.json").write_text(json.dumps({"scores": scores(learner)}) + "\n")


def new_learner() -> Learner:
    """Before it has learned anything."""
    learner: Any = create(
        "crumb",
        backbone="test_efficientnet",
        cut="blocks.4",
        weights="random",
        blocks=8,
        block_length=16,
        memory_size=6,
        write_policy="on-arrival",
    )
    return learner


def trained_learner() -> Learner:
    """Two steps on two classes."""
    learner = new_learner()
    for seed, name in enumerate(CLASSES):
        learner.observe(picture(seed), name)
    return learner


def picture(seed: int) -> torch.Tensor:
    """uint8 [4, 3, 40, 40], of simple numbers, as generators may change from version to version."""
    values = torch.arange(4 * 3 * 40 * 40).view(4, 3, 40, 40)
    return (values * (7 + 4 * seed) % 251).to(torch.uint8)


def scores(learner: Learner) -> list[list[float]]:
    """Logits of fixed features."""
    count = 2 * math.prod(learner.network.feature_shape)
    features = (torch.arange(count) % 17 / 8 - 1).view(2, *learner.network.feature_shape)
    with learner.evaluation():
        return learner.scores(features).tolist()


def tasks() -> TaskList:
    """Two tasks of two images each."""
    frames = [Frames((f"{n}/a.png", f"{n}/b.png"), np.array([n, n])) for n in (0, 1)]
    return TaskList("iid", 0, False, tuple(frames), frames[0], CLASSES)


def record() -> RunRecord:
    """Every figure another number."""

    def score(*by_task: float | None) -> Score:
        found = {(1, test, path): 10.0 * len(test + path) for test in TESTS for path in PATHS}
        return Score(found, [*by_task])

    return RunRecord(
        run=0,
        classes=[*CLASSES],
        scores=[[score(50.0), score(60.0)], [score(40.0, None)]],
        reported=[1, 0],
        statistics=[{"run": 0, "usage": 0.5}],
        replay_bytes=100,
        extra_bytes=20,
        seconds=2.5,
        images=40,
        peak_memory_bytes=1 << 20,
        test_seconds=0.5,
        feature_seconds=0.25,
        checkpoint_seconds=0.125,
    )


def write_images(folder: Path) -> None:
    """A data set of one image to learn from and one to be tested on."""
    rows = []
    for session in (1, 3):
        path = f"bed/bed_{session}.png"
        (folder / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (session, 0, 0)).save(folder / "images" / path)
        rows.append({"class": 0, "object": 1, "session": session, "im_num": 1, "im_path": path})
    write_dataset(Dataset("mini", folder, folder / "images", pd.DataFrame(rows), {0: "bed"}, (3,)))


if __name__ == "__main__":
    main(sys.argv[1])
