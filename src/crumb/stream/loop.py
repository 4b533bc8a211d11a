"""The training loop of one run, with a test after every epoch and checkpoints."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from crumb.data.protocol import Frames
from crumb.device import return_memory
from crumb.errors import DivergedError, InputError, Terminated, setting
from crumb.methods.base import Learner
from crumb.progress import RunProgress
from crumb.stream.checkpoint import Checkpoints, State
from crumb.stream.evaluate import evaluate
from crumb.stream.feed import CountedReading, Reading
from crumb.stream.interruption import defer_signals, raised_immediately, signals_between_batches
from crumb.stream.plan import Plan
from crumb.stream.record import RunRecord
from crumb.stream.tasks import choose

# Check losses and release memory once per so many steps, because it synchronises with the GPU.
_CHECK_EVERY = 50
_KEPT = f"use a smaller {setting('lr')}; finished runs and the last good checkpoint are kept"


def run_once(plan: Plan) -> RunRecord:
    """Do one run over all tasks, or the rest of it after its newest checkpoint.

    Raises:
        KeyboardInterrupt, Terminated: a signal arrived; a checkpoint was saved.
        DivergedError: a loss or a weight is no longer finite.
        InputError: the checkpoint is of other data, or the learner of an earlier task is missing.
    """
    learner, tasks = plan.learner, plan.tasks
    learner.start_head(len(tasks.classes))
    if learner.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(learner.device)
    state = plan.checkpoints.restore(learner) if plan.checkpoints else None
    if state is None:
        state = State(_new_record(plan))
    for path in plan.task_models[: state.task]:
        if not path.exists():
            problem = f"is missing, because the run was started without {setting('save_tasks')}"
            raise InputError(
                path,
                problem,
                f"give {setting('save_tasks', False)}, or another {setting('output')}",
            )
    if plan.checkpoints:
        _tell(plan.checkpoints, state, len(tasks.tasks))
    state.record.feature_seconds += plan.store.seconds
    name = f"{learner.name} run {tasks.run}"
    shown = RunProgress(name, _batches(plan), _batches(plan, state))
    with shown as progress, signals_between_batches():
        try:
            _run_tasks(plan, state, progress)
        except (KeyboardInterrupt, Terminated) as signalled:
            # A run cannot resume from the middle of a step.
            if not raised_immediately(signalled):
                _save(plan, state)
            raise
    _note_memory(plan, state)
    return state.record


def _new_record(plan: Plan) -> RunRecord:
    """An empty record."""
    learned = {path for task in range(len(plan.epochs)) for path in plan.learned(task).paths}
    return RunRecord(
        plan.tasks.run,
        list(plan.tasks.classes),
        gradient_steps=0,
        tail_maps=0,
        images_read_again=0,
        distinct_images=len(learned),
        batch_seconds=plan.batch_seconds,
        images_lost=sum(int(lost.sum()) for lost in plan.lost) if plan.lost else None,
    )


@contextmanager
def _counted(learner: Learner, record: RunRecord) -> Iterator[None]:
    """Add the work of a with block to a record, unless its run started without counting."""
    steps, maps = learner.steps, learner.network.maps
    yield
    if record.gradient_steps is not None and record.tail_maps is not None:
        record.gradient_steps += learner.steps - steps
        record.tail_maps += learner.network.maps - maps


def _tell(checkpoints: Checkpoints, state: State, tasks: int) -> None:
    """Print where the run resumes and which checkpoints are damaged."""
    for name in checkpoints.damaged:
        sys.stderr.write(f"{name} is damaged and was ignored\n")
    if state.source:
        place = f"after batch {state.batch}" if state.batch else "first batch"
        where = f"task {state.task + 1} of {tasks}, epoch {state.epoch + 1}, {place}"
        if state.task == tasks:
            where = "after its last task"
        sys.stderr.write(f"run {state.record.run} resumes from {state.source}: {where}\n")
    for what in checkpoints.changed:
        sys.stderr.write(f"started with {what}: the last bits may differ\n")


def _batches(plan: Plan, until: State | None = None) -> int:
    """Number of batches in all epochs, or in those before ``until``."""
    counts = [len(plan.reading(task)) for task in range(len(plan.epochs))]
    if until is None:
        return sum(count * epochs for count, epochs in zip(counts, plan.epochs, strict=True))
    done = sum(counts[task] * plan.epochs[task] for task in range(until.task))
    return done + (counts[until.task] * until.epoch + until.batch if counts[until.task :] else 0)


def _run_tasks(plan: Plan, state: State, progress: RunProgress) -> None:
    groups: list[list[int]] = []
    for task, frames in enumerate(plan.tasks.tasks):
        known = {label for group in groups for label in group}
        groups.append(sorted(set(frames.labels.tolist()) - known))
        if task < state.task:
            continue
        _run_task(plan, state, groups, progress)
        return_memory()
        _save(plan, state)


def _run_task(plan: Plan, state: State, groups: list[list[int]], progress: RunProgress) -> None:
    """Learn one task, test after each epoch and end the task.

    The end of the task comes after the last test. It is skipped after the last task unless the
    learner is tested after it. In that case no checkpoint is written between the last batch and the
    end of that test, so a run resumes either before or after both.
    """
    learner, record, task = plan.learner, state.record, state.task
    known = sum(len(group) for group in groups)
    if len(record.scores) == task:
        plan.begin(task, known)
        record.scores.append([])
        state.best_accuracy, state.best_epoch, state.best = -1.0, plan.epochs[task] - 1, {}
    while not _is_read(plan, state):
        reading = plan.reading(task, state.epoch, state.batch)
        learn_epoch(plan, reading, state, progress.update)
        if plan.lost:
            # A class is tested even if all its frames were lost.
            learner.add_classes(plan.tasks.classes[:known])
        over = state.epoch + 1 == plan.epochs[task] or learner.converged()
        if over and learner.tested_after_task_end:
            break
        if over and not state.best:
            state.best_epoch = state.epoch
        _test(plan, state, groups, progress)
        state.epoch, state.batch = state.epoch + 1, 0
    with defer_signals():
        _finish_task(plan, state, plan.learned(task), groups, progress)
        if plan.task_models:
            learner.save(plan.task_models[task])


def _is_read(plan: Plan, state: State) -> bool:
    """Whether all epochs of the task are done."""
    begun = state.epoch == 0 or state.batch > 0
    return state.epoch == plan.epochs[state.task] or (not begun and plan.learner.converged())


def _test(
    plan: Plan, state: State, groups: list[list[int]], progress: RunProgress, select: bool = True
) -> None:
    """Test after an epoch, and record the score only once no signal can interrupt."""
    evaluation, record = plan.config.evaluation, state.record
    test = _test_reading(plan, plan.tasks.test, groups)
    with _Clock() as clock:
        score, confusion = evaluate(
            plan.learner, test, groups, evaluation.top_k, evaluation.mem_accuracy
        )
    if select:
        _select(plan, state, groups)
    last = state.task == len(plan.tasks.tasks) - 1
    if last and (not select or state.best_epoch == state.epoch):
        record.confusion = confusion
    record.test_seconds += clock.seconds
    record.scores[state.task].append(score)
    return_memory()
    where = f"task {state.task + 1} of {len(plan.tasks.tasks)}, epoch {state.epoch + 1}"
    progress.tested(where, score.accuracy[1, "all", "direct"])


def _select(plan: Plan, state: State, groups: list[list[int]]) -> None:
    """If images are held out, remember the epoch with the best accuracy on them."""
    validation = choose(plan.tasks.tasks[state.task], plan.held_out[state.task])
    if validation.paths:
        reading = _test_reading(plan, validation, groups)
        score, _ = evaluate(plan.learner, reading, groups, (1,), False)
        if (held_out := score.accuracy[1, "all", "direct"]) > state.best_accuracy:
            state.best_accuracy, state.best_epoch = held_out, state.epoch
            state.best = _snapshot(plan.learner)


def _finish_task(
    plan: Plan, state: State, frames: Frames, groups: list[list[int]], progress: RunProgress
) -> None:
    """Restore the best epoch, if selected, and do the second pass over the task.

    If the learner is tested after the second pass, that test is the one reported.
    """
    learner, record = plan.learner, state.record
    # The end of a task may change what comes after the next.
    tested_after, learns = learner.tested_after_task_end, learner.learns_at_task_end
    if tested_after:
        _select(plan, state, groups)
    if state.best:
        _restore(learner, state.best)
    record.reported.append(state.epoch if tested_after else state.best_epoch)
    # Some of it is freed at the end of a task.
    _note_bytes(plan, state)
    more = state.task < len(plan.tasks.tasks) - 1
    if learner.needs_task_boundaries and (more or tested_after):
        images = learner.needs_images or learner.wants_images
        again = CountedReading(Reading(frames, plan.store, plan.batch_size, images, False))
        with _Clock() as clock, _counted(learner, record):
            learner.end_task(again)
        record.seconds += clock.seconds
        if record.images_read_again is not None:
            record.images_read_again += again.images
    if tested_after:
        if learns:
            _check_weights(learner, state)
        _test(plan, state, groups, progress, select=False)
    _note_bytes(plan, state)
    state.task, state.epoch, state.batch, state.best = state.task + 1, 0, 0, {}


def _note_bytes(plan: Plan, state: State) -> None:
    """Record the memory that the learner holds if it is a new maximum."""
    held, record = plan.learner.bytes_held(), state.record
    if held.replay + held.extra >= record.replay_bytes + record.extra_bytes:
        record.replay_bytes, record.extra_bytes = held.replay, held.extra


def learn_epoch(
    plan: Plan, reading: Reading, state: State, learned: Callable[[], None] | None = None
) -> None:
    """Learn the rest of one epoch.

    Codebook statistics are taken before the first and the last step.
    """
    learner, record, last = plan.learner, state.record, len(reading) - 1
    losses: list[dict[str, Tensor]] = []
    started = time.perf_counter()
    for number, batch in enumerate(reading, reading.start):
        newest = int(batch.labels.max())
        if newest >= len(learner.classes):
            learner.add_classes(plan.tasks.classes[: newest + 1])
        if number in (0, last) and (figures := learner.statistics(batch)) is not None:
            at = {"run": plan.tasks.run, "task": state.task, "epoch": state.epoch}
            record.statistics.append(at | figures)
        with _counted(learner, record):
            losses.append(learner.learn(batch))
        record.images += len(batch)
        state.batch = number + 1
        now = time.perf_counter()
        record.seconds, started = record.seconds + now - started, now
        _note_bytes(plan, state)
        if learned is not None:
            learned()
        save = plan.checkpoints is not None and plan.checkpoints.due()
        if save or len(losses) == _CHECK_EVERY or number == last:
            _check_finite(losses, reading, state)
            losses.clear()
            return_memory()
        if save:
            _save(plan, state)
            started = time.perf_counter()
    _check_weights(learner, state)


def _save(plan: Plan, state: State) -> None:
    """Write a checkpoint, except before the first batch or with non-finite weights."""
    if plan.checkpoints is not None and state.record.images:
        _check_weights(plan.learner, state)
        _note_memory(plan, state)
        with _Clock() as clock:
            plan.checkpoints.save(plan.learner, state)
        state.record.checkpoint_seconds += clock.seconds


def _check_weights(learner: Learner, state: State) -> None:
    """Check the weights: no later loss reveals whether the last step diverged."""
    for name, value in learner.parameters().items():
        if not value.isfinite().all():
            raise DivergedError(
                f"--lr: task {state.task}, epoch {state.epoch}, batch {state.batch - 1}",
                f"{name} is no longer finite",
                _KEPT,
            )


def _check_finite(losses: Sequence[dict[str, Tensor]], reading: Reading, state: State) -> None:
    """The losses of the batches before ``state.batch``."""
    if not any(losses):
        return
    finite = [torch.stack(list(parts.values())).isfinite().all() for parts in losses]
    bad = (~torch.stack(finite)).nonzero().flatten().tolist()
    if bad:
        number = state.batch - len(losses) + bad[0]
        names = [name for name, value in losses[bad[0]].items() if not value.isfinite()]
        paths = reading.paths(number)
        raise DivergedError(
            f"--lr: task {state.task}, epoch {state.epoch}, batch {number} "
            f"({len(paths)} images, {paths[0]} to {paths[-1]})",
            f"the {' and '.join(names)} loss is not finite",
            _KEPT,
        )


def _test_reading(plan: Plan, frames: Frames, groups: list[list[int]]) -> Reading:
    known = choose(frames, frames.labels < sum(len(group) for group in groups))
    return Reading(known, plan.store, plan.config.evaluation.test_batch_size)


class _Clock:
    """Measures the seconds spent in a with block."""

    def __enter__(self) -> _Clock:
        self._started = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self._started


def _snapshot(learner: Learner) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in learner.parameters().items()}


def _restore(learner: Learner, snapshot: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in learner.parameters().items():
            value.copy_(snapshot[name])


def _note_memory(plan: Plan, state: State) -> None:
    peak = _peak_memory(plan.learner.device)
    state.record.peak_memory_bytes = max(state.record.peak_memory_bytes, peak)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # The unit is kilobytes except on macOS.
    return peak if sys.platform == "darwin" else peak * 1024
