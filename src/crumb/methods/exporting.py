"""Write a learner as a folder for small devices (:mod:`crumb.portable`)."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from crumb import portable
from crumb.device import usual_torch
from crumb.errors import InputError, setting
from crumb.files import WRITE_REMEDY, short_name, write_bytes, write_json, write_tensors
from crumb.methods.base import Learner
from crumb.methods.closed_form import ClosedForm
from crumb.methods.exported import state_sha256
from crumb.methods.saving import described
from crumb.methods.slda import StreamingLda
from crumb.nets.export import OPSET, ExportError
from crumb.nets.pooled import export_pooled, with_classifier

_TOLERANCE = 1e-3
"""Largest difference of a feature from PyTorch's, in standard deviations; and of a logarithm of a
probability, as a share of the largest logit."""


@usual_torch()
def export(learner: Learner, folder: Path, source: object) -> None:
    """Write a learner as a folder that crumb-lite and Crumb can load.

    Both networks are run by ONNX Runtime and compared with PyTorch before the folder gets its name.

    Args:
        learner: of slda or ncm, on the CPU, with at least one class.
        folder: folder to make. Nothing may have this name.
        source: where the learner comes from, for messages.

    Raises:
        InputError: the method or the network cannot be exported, the learner is on a GPU, no class
            is known, the results differ from PyTorch's, or the folder cannot be written. Nothing is
            left behind.
    """
    known = _refuse_others(learner, source)
    _refuse_existing(folder)
    try:
        front = export_pooled(learner.network)
        predict = _classifier(known, front)
    except ExportError as error:
        problem = f"has a network that cannot be exported ({error})"
        raise InputError(source, problem, "use another backbone") from error
    _compare(known, front, predict, source)
    _write_folder(known, folder, front, predict)


def write_state(learner: Learner, folder: Path) -> None:
    """Write what a learner was taught into the exported folder that it was loaded from.

    Raises:
        InputError: another process has changed the state since it was loaded, or a file cannot be
            written. The state is replaced as a whole or not at all.
    """
    assert isinstance(learner, ClosedForm)
    if state_sha256(folder) != learner.state_sha256:
        problem = "was changed by another process"
        raise InputError(folder / portable.STATE, problem, "repeat the lesson")
    # No file with the old classes may stay beside the new state, even after an interruption.
    try:
        (folder / portable.PREDICT).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(folder, f"cannot be written ({error.strerror})", WRITE_REMEDY) from error
    learner.state_sha256 = _write_state(learner, folder)
    try:
        predict = _classifier(learner, (folder / portable.FRONT).read_bytes())
        write_bytes(folder / portable.PREDICT, predict)
    # The file is not needed for the next lesson, and the folder may come back without the front.
    except (ExportError, InputError, OSError):
        return


def _refuse_others(learner: Learner, source: object) -> ClosedForm:
    if learner.name not in portable.METHODS:
        problem = f"is of method {learner.name}, which cannot be exported"
        raise InputError(source, problem, f"use a model of {' or '.join(portable.METHODS)}")
    assert isinstance(learner, ClosedForm)
    if learner.device.type != "cpu":
        problem = "is on a GPU, where it cannot be exported"
        raise InputError(source, problem, f"load it with {setting('device', 'cpu')}")
    if not learner.frames_seen():
        raise InputError(source, "knows no class", "teach it a class with crumb teach")
    return learner


def _refuse_existing(folder: Path) -> None:
    if folder.exists() or folder.is_symlink():
        remedy = f"remove it or give {setting('output')}"
        raise InputError(folder, "exists and is not overwritten", remedy)


def _write_folder(learner: ClosedForm, folder: Path, front: bytes, predict: bytes) -> None:
    """Write all files under another name, then rename the folder."""
    part = folder.with_name(f".{short_name(folder.name)}.{os.getpid()}.part")
    parents = [one for one in part.absolute().parents if not one.exists()]
    try:
        part.mkdir(parents=True)
        write_bytes(part / portable.FRONT, front)
        write_bytes(part / portable.PREDICT, predict)
        others = {n: v for n, v in learner.state_dict().items() if n not in learner.kept()}
        write_tensors(part / portable.NETWORK, others, {})
        _write_state(learner, part)
        write_json(part / portable.MODEL, _manifest(learner, part))
        part.rename(folder)
    except OSError as error:
        raise InputError(folder, f"cannot be written ({error.strerror})", WRITE_REMEDY) from error
    finally:
        # After the rename nothing has this name.
        shutil.rmtree(part, ignore_errors=True)
        # A folder that holds something stays.
        with contextlib.suppress(OSError):
            for one in parents:
                one.rmdir()


def _manifest(learner: ClosedForm, folder: Path) -> dict[str, Any]:
    """The content of ``model.json``: everything that no lesson changes."""
    changing = ("classes", "temperature", "reach")
    about = {name: value for name, value in described(learner).items() if name not in changing}
    files = (portable.FRONT, portable.NETWORK)
    digests = {name: portable.sha256_of(folder / name) for name in files}
    return {
        "format": portable.FORMAT,
        "version": portable.VERSION,
        "opset": OPSET,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("crumb-learn", "torch", "onnx", "onnxruntime")},
        },
        "sha256": digests | {portable.LEARNER: portable.digest_of({}, about)},
        portable.LEARNER: about,
    }


def _write_state(learner: ClosedForm, folder: Path) -> str:
    """Write ``state.safetensors``: statistics, and all else that a lesson changes.

    Returns:
        its SHA-256.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in learner.kept().items()}
    if isinstance(learner, StreamingLda) and learner.crumbs is not None:
        tensors[portable.BLOCKS] = learner.crumbs.blocks.cpu()
    about = {
        "classes": learner.classes,
        "temperature": learner.temperature,
        "reach": learner.reach,
        "reference": portable.as_lists(reference_scores(learner)),
    }
    # What JSON makes of it: lists for tuples.
    about = json.loads(json.dumps(about))
    about["sha256"] = portable.digest_of({n: v.numpy() for n, v in tensors.items()}, about)
    write_tensors(folder / portable.STATE, tensors, {portable.KEY: json.dumps(about)})
    return about["sha256"]


def reference_scores(learner: Learner) -> np.ndarray:
    """Scores of the generated images, float32 [3, classes]; minus infinity without frames."""
    images = _reference(learner)
    with learner.evaluation():
        return learner.scores(learner.features(images.to(learner.device))).cpu().numpy()


def _reference(learner: Learner) -> Tensor:
    """The generated images, uint8 [3, 3, S, S]."""
    images = portable.reference_images(learner.network.preprocessing.size)
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _classifier(learner: ClosedForm, front: bytes) -> bytes:
    """The front followed by the linear classifier that the scores amount to."""
    weights, bias = _linear(learner)
    root = learner.config.transform == "sqrt"
    return with_classifier(front, weights, bias, root, {"classes": json.dumps(learner.classes)})


def _linear(learner: ClosedForm) -> tuple[np.ndarray, np.ndarray]:
    """Weights, float64 [D, classes], and bias, float64 [classes], of the logits.

    A score is linear in the features but for a term that all classes have. What the logits of all
    classes have in common is left out, so that float32 is precise enough for their differences.
    """
    means, directions = (
        value.cpu().double() for value in (learner.moments.mean_vectors(), learner.directions)
    )
    if isinstance(learner, StreamingLda):
        whitener = learner.prepare()[0].cpu().double()
        means, directions = means @ whitener, directions @ whitener
    seen = learner.moments.counts.cpu() > 0
    bias = -means.square().sum(1) / 2
    means, bias = means - means[seen].mean(0), bias - bias[seen].mean()
    bias = bias.masked_fill(~seen, -torch.inf) / learner.temperature
    return (directions @ means.T / learner.temperature).numpy(), bias.numpy()


def _compare(learner: ClosedForm, front: bytes, predict: bytes, source: object) -> None:
    """Run both networks. Compare features with PyTorch's, and probabilities with those of features.

    Raises:
        InputError: they differ by more than rounding.
    """
    images = _reference(learner)
    with learner.inference():
        features = learner.network.penultimate(learner.network.features(images))
        entering = learner.pooled(learner.network.features(images)).double().numpy()
    # Of one image too: a network may have learned the number of images in the export.
    found = np.concatenate([_run(front, images[:1]), _run(front, images[1:])])
    difference = float(np.abs(found - features.numpy()).max() / (features.std() + 1e-30))
    weights, bias = _linear(learner)
    logits = entering @ weights + bias
    # Generated images are far from every class, so a logit can be large, and uncertain by a share.
    size = max(1.0, float(np.abs(logits[np.isfinite(logits)]).max()))
    chances = torch.from_numpy(logits).softmax(1).numpy()
    one, other = (np.log(values.clip(1e-30)) for values in (_run(predict, images), chances))
    difference = max(difference, float(np.abs(one - other).max()) / size)
    if not difference <= _TOLERANCE:
        problem = f"has a network whose export gives other results (by {difference:.1e})"
        raise InputError(source, problem, "use another backbone")


def _run(model: bytes, images: Tensor) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    return cast("np.ndarray", session.run(None, {portable.INPUT: pixels})[0])
