"""What becomes of the cells of a grid: runs are only written, nothing is learned."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from crumb.data.index import Dataset
from crumb.errors import DivergedError, InputError
from crumb.experiments import grid as module
from crumb.experiments.grid import Cell, Grid
from crumb.files import write_json
from crumb.locks import try_lock
from crumb.nets.config import NetworkConfig
from crumb.stream.config import StreamConfig
from crumb.stream.job import Job
from crumb.stream.record import FORMAT, VERSION, RunRecord, Score, record_to_json
from crumb.stream.results import BusyError
from crumb.stream.settings import OtherSettingsError

LOST = DivergedError("the loss", "is not finite", "lower the lr")
BROKEN = InputError("frame.png", "is broken", "repair it")
BUSY = BusyError("folder", "is being written", "wait for it")


def write(folder: Path, run: int) -> None:
    score = Score({(1, "all", "direct"): 50.0}, [50.0])
    record = RunRecord(run, ["a"], [[score]], [0], seconds=1.0, images=1)
    content = {"format": FORMAT, "version": VERSION, **record_to_json(record)}
    write_json(folder / "runs" / f"run{run}.json", content)


class Runner:
    """Stands for :func:`carry_out_all`: by folder, what becomes of each call; then all is well."""

    def __init__(self) -> None:
        self.fates: dict[str, list[Any]] = {}
        self.calls: list[tuple[str, list[int]]] = []

    def __call__(self, job: Job, stores: object) -> dict[int, DivergedError]:
        self.calls.append((job.folder.name, [*job.task_lists]))
        fates = self.fates.get(job.folder.name, [])
        fate = fates.pop(0) if fates else {}
        if isinstance(fate, BaseException):
            raise fate
        for run in job.task_lists:
            if run not in fate:
                write(job.folder, run)
                for path in job.models(run):
                    path.write_bytes(b"learner")
        return fate


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    found = Runner()
    monkeypatch.setattr(module, "carry_out_all", found)
    return found


def job(folder: Path, *runs: int, model: str | None = None) -> Job:
    config = StreamConfig(folder, first_run=min(runs), runs=len(runs))
    dataset: Any = Dataset
    tasks: Any = dict.fromkeys(runs)
    return Job("stream", config, NetworkConfig(), None, dataset, tasks, folder, model)


def grid_of(folder: Path, *names: str, runs: int = 1) -> Grid:
    cells = [Cell(name, job(folder / name, *range(runs))) for name in names]
    return Grid(folder, "compare", cells=cells)


def filled(grid: Grid) -> list[str]:
    return [cell.name for cell in grid.fill()]


def finished(grid: Grid) -> dict[str, list[int]]:
    return {cell.name: [r.run for r in grid.records(cell)] for cell in grid.cells}


def test_cells_are_filled_in_order_and_once(tmp_path: Path, runner: Runner):
    grid = grid_of(tmp_path, "a", "b", runs=2)
    assert filled(grid) == ["a", "b"]
    assert finished(grid) == {"a": [0, 1], "b": [0, 1]}
    assert filled(grid) == ["a", "b"]
    assert runner.calls == [("a", [0, 1]), ("b", [0, 1])]
    assert grid.notes() == {}
    grid.end()
    # More runs: those that are there stay in the settings that are written.
    assert filled(grid_of(tmp_path, "b", runs=3)) == ["b"]
    assert runner.calls[2:] == [("b", [0, 1, 2])]


def test_what_is_left_of_a_finished_run_is_cleared(tmp_path: Path, runner: Runner):
    grid = grid_of(tmp_path, "a")
    write(tmp_path / "a", 0)
    (tmp_path / "a/checkpoints").mkdir()
    (tmp_path / "a/checkpoints/run0_000000.safetensors").touch()
    filled(grid)
    assert runner.calls == [("a", [0])]


def test_a_cell_that_fails_is_reported_and_the_others_are_done(tmp_path: Path, runner: Runner):
    runner.fates = {"a": [BROKEN], "c": [BROKEN]}
    grid = grid_of(tmp_path, "a", "b", "c")
    assert filled(grid) == ["a", "b", "c"]
    assert finished(grid) == {"a": [], "b": [0], "c": []}
    assert grid.notes() == dict.fromkeys("ac", "failed: frame.png: is broken; repair it")
    with pytest.raises(InputError, match="^a: frame.png: is broken; repair it$"):
        grid.end()
    grid = grid_of(tmp_path, "a", "b", "c")
    filled(grid)
    assert finished(grid) == {"a": [0], "b": [0], "c": [0]}
    grid.end()


def test_a_damaged_run_is_a_failure(tmp_path: Path, runner: Runner):
    grid = Grid(tmp_path, "tune", "trial", cells=grid_of(tmp_path, "a", "b").cells)
    write(tmp_path / "a", 0)
    (tmp_path / "a/runs/run0.json").write_text("{")
    assert filled(grid) == ["a", "b"]
    assert finished(grid) == {"a": [], "b": [0]}
    with pytest.raises(InputError, match=r"^trial a: .*run0.json: "):
        grid.end()


def test_the_runs_that_diverge_are_reported_and_the_others_are_done(tmp_path: Path, runner: Runner):
    runner.fates = {"a": [{2: LOST, 0: LOST}]}
    grid = grid_of(tmp_path, "a", "b", runs=4)
    filled(grid)
    said = "the loss: is not finite; lower the lr"
    assert grid.notes() == {"a": f"diverged in run 0: {said}; diverged in run 2: {said}"}
    assert finished(grid) == {"a": [1, 3], "b": [0, 1, 2, 3]}
    grid.end()
    filled(grid)
    assert grid.notes() == {}
    assert finished(grid)["a"] == [0, 1, 2, 3]


def test_a_cell_that_another_call_is_at_is_come_back_to(tmp_path: Path, runner: Runner):
    runner.fates = {"a": [BUSY]}
    grid = grid_of(tmp_path, "a", "b")
    assert filled(grid) == ["b", "a"]
    assert grid.notes() == {}


def test_where_all_that_is_left_is_of_other_calls_it_ends(
    tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module.time, "sleep", None)
    (tmp_path / "a").mkdir()
    other = os.open(tmp_path / "a", os.O_RDONLY)
    assert try_lock(other)
    grid = grid_of(tmp_path, "a", "b")
    assert filled(grid) == ["b"]
    # Nothing was prepared for it.
    assert runner.calls == [("b", [0])]
    assert grid.notes() == {"a": "is being run by another call"}
    grid.end()
    write(tmp_path / "a", 0)
    os.close(other)
    assert finished(grid) == {"a": [0], "b": [0]}
    assert grid.notes() == {}


def test_a_finished_cell_is_not_busy(tmp_path: Path, runner: Runner):
    write(tmp_path / "a", 0)
    other = os.open(tmp_path / "a", os.O_RDONLY)
    assert try_lock(other)
    assert filled(grid_of(tmp_path, "a")) == ["a"]
    os.close(other)


@pytest.mark.parametrize("signal", [KeyboardInterrupt(), SystemExit()])
def test_a_signal_ends_it_and_the_same_call_goes_on(
    tmp_path: Path, runner: Runner, signal: BaseException
):
    runner.fates = {"b": [signal]}
    grid = grid_of(tmp_path, "a", "b", "c")
    with pytest.raises(type(signal)):
        filled(grid)
    assert finished(grid) == {"a": [0], "b": [], "c": []}
    assert filled(grid) == ["a", "b", "c"]
    assert [name for name, _ in runner.calls] == ["a", "b", "b", "c"]


# What runs start from.


@dataclass
class Made:
    """A file in a folder of its own, made by one run."""

    file: Path
    run: int
    asked: list[int] = field(default_factory=list)

    def job(self) -> Job:
        self.asked.append(self.run)
        return job(self.file.parent, self.run, model=self.file.name)


def starting(folder: Path, *names: str, runs: int = 1) -> Grid:
    """Cells that start from the same files, one for each run."""
    starts = {run: Made(folder / f"start{run}" / "file", run) for run in range(runs)}
    cells = [Cell(name, job(folder / name, *range(runs)), starts) for name in names]
    return Grid(folder, "ablate", "arm", cells=cells)


def test_what_runs_start_from_is_made_once(tmp_path: Path, runner: Runner):
    grid = starting(tmp_path, "a", "b", runs=2)
    assert filled(grid) == ["a", "b"]
    made = [("start0", [0]), ("start1", [1])]
    assert runner.calls == [*made, ("a", [0, 1]), ("b", [0, 1])]
    # For what is finished it is not made again, and then left out of what is written.
    for run in (0, 1):
        (tmp_path / f"start{run}/file").unlink()
    filled(starting(tmp_path, "a", "b", runs=2))
    filled(starting(tmp_path, "a", runs=3))
    assert runner.calls[4:] == [("start2", [2]), ("a", [2])]


def test_what_diverges_is_lost_to_every_cell_that_starts_from_it(tmp_path: Path, runner: Runner):
    runner.fates = {"start1": [{1: LOST}]}
    grid = starting(tmp_path, "a", "b", runs=3)
    filled(grid)
    assert finished(grid) == {"a": [0, 2], "b": [0, 2]}
    said = "diverged in run 1: the loss: is not finite; lower the lr"
    assert grid.notes() == {"a": said, "b": said}
    assert [name for name, _ in runner.calls].count("start1") == 1


def test_a_start_that_cannot_be_made_is_a_failure(tmp_path: Path, runner: Runner):
    runner.fates = {"start0": [BROKEN]}
    grid = starting(tmp_path, "a")
    grid.cells += grid_of(tmp_path, "b").cells
    filled(grid)
    assert finished(grid) == {"a": [], "b": [0]}
    with pytest.raises(InputError, match="^arm a: frame.png"):
        grid.end()


def test_a_damaged_file_is_to_be_removed(tmp_path: Path, runner: Runner):
    grid = starting(tmp_path, "a")
    path = tmp_path / "start0/file"
    runner.fates = {"a": [InputError(path, "is damaged", "give another")]}
    filled(grid)
    assert grid.notes() == {
        "a": f"failed: {path}: is damaged; remove it, and it will be made again"
    }


def test_cells_wait_for_what_another_call_makes(
    tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "start0"
    folder.mkdir()
    other = os.open(folder, os.O_RDONLY)
    assert try_lock(other)
    runner.fates = {"b": [BUSY]}
    grid = starting(tmp_path, "a")
    grid.cells += grid_of(tmp_path, "b", "c").cells
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        # All that can be done is done by now.
        assert finished(grid) == {"a": [], "b": [0], "c": [0]}
        if len(slept) == 2:
            (folder / "file").write_bytes(b"learner")
            os.close(other)

    monkeypatch.setattr(module.time, "sleep", sleep)
    assert filled(grid) == ["c", "b", "a"]
    assert len(slept) == 2
    assert [name for name, _ in runner.calls] == ["b", "c", "b", "a"]


# Before and after.


def test_cells_that_cannot_be_run_are_told_from_folders_of_others(tmp_path: Path):
    grid = Grid(tmp_path, "compare")
    with grid.arranging("a"):
        raise BROKEN
    assert grid.notes() == {"a": "cannot be run: frame.png: is broken; repair it"}
    grid.end()
    with pytest.raises(InputError) as refused, grid.arranging("b"):
        raise OtherSettingsError("--resume b", "was made with x = 1, not 2", "use the same")
    assert refused.value.in_flags() == (
        f"{tmp_path / 'b'}: was made with x = 1, not 2; "
        "compare with the same settings, or give another --output"
    )


def test_one_call_at_a_time_has_the_tables(tmp_path: Path):
    def is_locked() -> bool:
        descriptor = os.open(tmp_path, os.O_RDONLY)
        try:
            return not try_lock(descriptor)
        finally:
            os.close(descriptor)

    with Grid(tmp_path, "compare").tables():
        assert is_locked()
    assert not is_locked()
