"""Choose what computes the frozen front of a network: torch or another engine.

An engine is used only if its features agree with torch's. ``auto`` measures once which engine is
fastest and stores the choice beside the exported front, so later calls on the same machine compute
the same bytes.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from crumb.errors import InputError, setting
from crumb.files import read_json, write_json
from crumb.nets import engines, export
from crumb.nets.config import EngineName
from crumb.nets.engines import ENGINES, Engine

if TYPE_CHECKING:
    from crumb.nets.split import SplitNetwork

TOLERANCE = 1e-3
"""Largest accepted difference from torch's features, in units of their standard deviation."""
FASTER = 0.9
"""``auto`` chooses an engine only if it takes at most this share of torch's time."""
_FORMAT, _VERSION = "crumb-front-choice", 1
_ROUNDS = 4
# Choice of ``auto`` if no folder can store a measured choice. The engine that is usually fastest #
# comes first (benchmarks/README.md).
_USUAL: tuple[EngineName, ...] = ("openvino", "onnxruntime")
Weights = tuple[tuple[int, int], ...]
"""Address of each tensor of a front, and the number of writes to it in place."""
_REMEDY = "remove it"
# Per process: networks with the same front share one engine and one choice.
_OPEN: WeakValueDictionary[str, Engine] = WeakValueDictionary()
_CHOSEN: dict[str, str] = {}
_SETTLING = threading.RLock()


class Unusable(Exception):
    """An engine cannot compute a front.

    Args:
        problem: the reason, in a few words.
        remedy: what to do about it. It ends with "or".
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.remedy = remedy


class RefusedEngineError(InputError):
    """Raised if the requested engine cannot compute the front.

    Args:
        name: name of the engine.
        reason: the reason.
        otherwise: what to do if the reason cannot be removed. Default: use torch.
    """

    def __init__(self, name: str, reason: Unusable, otherwise: str = "") -> None:
        otherwise = otherwise or f"give {setting('engine', 'torch')}"
        super().__init__(setting("engine", name), str(reason), f"{reason.remedy}{otherwise}")
        self._name, self._reason = name, reason

    def for_results(self) -> RefusedEngineError:
        """The error for a folder with results of this engine, which torch must not continue."""
        return RefusedEngineError(self._name, self._reason, f"give another {setting('output')}")


class FrontEngine:
    """The engine of a network. It is opened when the first features are computed.

    Args:
        wanted: torch, auto or the name of an engine.
        or_torch: use torch if that engine cannot be used.
    """

    def __init__(self, wanted: EngineName, or_torch: bool = False) -> None:
        self._wanted: EngineName = wanted
        self._or_torch = or_torch
        self._tensors: list[Mapping[str, Tensor | None]] = []
        self._weights: Weights | None = None
        self._engine: Engine | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A session cannot be pickled. It is opened again when features are computed.
        return self.__dict__ | {"_tensors": [], "_weights": None, "_engine": None}

    def of(self, network: SplitNetwork) -> Engine | None:
        """The engine that computes the front of this network; None is torch.

        The choice of ``auto`` is written to the configuration of the network. The engine is opened
        again if the weights of the front have changed.

        Raises:
            InputError: the engine cannot be used, and torch is not allowed instead.
        """
        if self._wanted == "torch":
            return None
        if self._weights is None or self._weights != _written(self._tensors):
            with _SETTLING:
                self._tensors = _tensors_of(network)
                # Another thread may have opened it meanwhile.
                if self._weights != (weights := _written(self._tensors)):
                    self._engine = self._settle(network)
                    self._weights = weights
        return self._engine

    def _settle(self, network: SplitNetwork) -> Engine | None:
        found, chooses = None, self._wanted == "auto"
        try:
            if chooses:
                check_place(network)
                found = _fastest(network)
            else:
                found = open_engine(network, self._wanted)
        except Unusable as error:
            if not (chooses or self._or_torch):
                raise RefusedEngineError(self._wanted, error) from error
        if chooses:
            self._wanted = _name(found)
            network.config = replace(network.config, engine=self._wanted)
        return found


def use_engine(network: SplitNetwork, wanted: EngineName, or_torch: bool = False) -> None:
    """Compute the front of a network with an engine, and set ``engine`` in its configuration.

    Call it after the network is on its device and its precision is set.

    Args:
        network: a network that still uses torch, as every new network does.
        wanted: torch, auto or the name of an engine.
        or_torch: use torch if that engine cannot be used here.

    Raises:
        InputError: the engine is not installed, or does not support this network.
    """
    network.engine = FrontEngine(wanted, or_torch)
    network.config = replace(network.config, engine=wanted)
    if wanted in ENGINES and not or_torch:
        try:
            check_place(network)
            _check_installed(wanted)
        except Unusable as error:
            raise RefusedEngineError(wanted, error) from error


def check_place(network: SplitNetwork) -> None:
    """Check that engines can compute the front.

    Raises:
        Unusable: the front is trained, on a GPU or in bfloat16.
    """
    if network.config.trainable == "all":
        raise Unusable(f"has no effect with {setting('trainable', 'all')}, which has no front")
    if next(network.tail.parameters()).device.type != "cpu":
        problem = "computes on the CPU, and the network is on a GPU"
        raise Unusable(problem, f"give {setting('device', 'cpu')}, or ")
    if network.bf16:
        raise Unusable(f"computes in float32, not with {setting('precision', 'bf16')}")


def open_engine(network: SplitNetwork, name: str) -> Engine:
    """Open the front of a network in an engine, and compare its features with torch's.

    Raises:
        Unusable: the engine is not installed, the front cannot be exported, or the features differ
            from torch's.
    """
    check_place(network)
    _check_installed(name)
    key = f"{name} {export.name_of(network)}"
    if (engine := _OPEN.get(key)) is not None:
        return engine
    try:
        engine = ENGINES[name](export.exported(network))
        difference = disagreement(network, engine)
    except export.ExportError as error:
        raise Unusable(f"cannot be used: the front cannot be exported ({error})") from error
    # The exception depends on the engine and on the unsupported operation.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise Unusable(f"cannot compute this front ({reason})") from error
    if not difference <= TOLERANCE:
        said = f"features differ from torch's by {difference:.1e} of their standard deviation"
        raise Unusable(f"cannot be used: its {said}")
    _OPEN[key] = engine
    return engine


def disagreement(network: SplitNetwork, engine: Engine) -> float:
    """Largest difference from torch's features on a few images, in standard deviations."""
    values = network.preprocessing(_pictures(network.preprocessing.size))
    with torch.no_grad():
        expected = network.front(values)
        found = engine(values)
    if not isinstance(expected, Tensor) or found.shape != expected.shape:
        return float("inf")
    difference = (found - expected).abs().max()
    return float(difference / expected.std().clamp_min(1e-30))


def _pictures(size: int) -> Tensor:
    """Three images of noise, uint8 [3, 3, S, S], with patches of different sizes."""
    generator = torch.Generator().manual_seed(0)
    pictures = []
    for grain in (1, 8, 32):
        cells = -(-size // grain)
        noise = torch.randint(0, 256, (3, cells, cells), generator=generator, dtype=torch.uint8)
        spread = noise.repeat_interleave(grain, 1).repeat_interleave(grain, 2)
        pictures.append(spread[:, :size, :size])
    return torch.stack(pictures)


def _fastest(network: SplitNetwork) -> Engine | None:
    """The engine chosen for fronts like this one; None is torch."""
    there = [name for name in ENGINES if engines.is_installed(name)]
    if not there:
        return None
    versions = [engines.version_of(name) for name in there]
    machine = torch.backends.cpu.get_cpu_capability()
    about = [*export.structure(network), str(versions), machine]
    key = hashlib.sha256(repr(about).encode()).hexdigest()[:16]
    if (name := _CHOSEN.get(key) or _remembered(key)) is None:
        with export.cache_alone():
            # Another process may have measured it meanwhile.
            if (name := _remembered(key)) is None:
                return _choose(network, there, key)
    _CHOSEN[key] = name
    # The features may still disagree with other weights.
    return None if name == "torch" else _usable(network, [name]).get(name)


def _choose(network: SplitNetwork, there: list[str], key: str) -> Engine | None:
    """Measure which engine is fastest, and store the choice if all engines were measured.

    An engine may fail for a temporary reason, or only with these weights.
    """
    usable = _usable(network, there)
    if not usable:
        return None
    seconds = seconds_per_image(network, usable)
    best = min(usable, key=seconds.__getitem__)
    name = best if seconds[best] < FASTER * seconds["torch"] else "torch"
    if len(usable) == len(there):
        if not _remember(key, name, seconds):
            # A new measurement in another process could choose another engine.
            name = next(one for one in _USUAL if one in usable)
        _CHOSEN[key] = name
    return usable.get(name)


def _remember(key: str, name: str, seconds: Mapping[str, float]) -> bool:
    """Store a choice. Returns False if there is no writable folder for it."""
    if (folder := export.cache_folder()) is None:
        return False
    content = {"format": _FORMAT, "version": _VERSION, "engine": name}
    content |= {"seconds_per_image": seconds}
    try:
        write_json(folder / f"choice_{key}.json", content, _REMEDY)
    except (InputError, OSError):
        return False
    return True


def _usable(network: SplitNetwork, names: list[str]) -> dict[str, Engine]:
    found = {}
    for name in names:
        with suppress(Unusable):
            found[name] = open_engine(network, name)
    return found


def _remembered(key: str) -> str | None:
    folder = export.cache_folder()
    if folder is None:
        return None
    with suppress(InputError, OSError):
        about = read_json(path := folder / f"choice_{key}.json", _REMEDY)
        known = (about.get("format"), about.get("version")) == (_FORMAT, _VERSION)
        if known and about.get("engine") in ("torch", *ENGINES):
            export.note_use(path)
            return about["engine"]
    return None


def _tensors_of(network: SplitNetwork) -> list[Mapping[str, Tensor | None]]:
    """The dictionaries in which the modules of a front hold their tensors.

    They are checked before every image. Walking through the modules would take ten times as long.
    """
    modules = network.front.modules()
    return [held for one in modules for held in (one._parameters, one._buffers) if held]


def _written(tensors: list[Mapping[str, Tensor | None]]) -> Weights:
    values = [value for held in tensors for value in held.values() if value is not None]
    return tuple((v.data_ptr(), 0 if v.is_inference() else v._version) for v in values)


def seconds_per_image(network: SplitNetwork, engines: Mapping[str, Engine]) -> dict[str, float]:
    """Seconds per image of torch and each engine on one thread, the least of a few rounds."""
    ways: dict[str, Callable[[Tensor], Any]] = {"torch": network.front, **engines}
    pictures = network.preprocessing(_pictures(network.preprocessing.size))
    values = torch.cat([pictures, pictures[:1]])
    taken: dict[str, list[float]] = {name: [] for name in ways}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            # They take turns, so that other work on the machine slows all of them down equally.
            for _ in range(_ROUNDS + 1):
                for name, compute in ways.items():
                    started = time.perf_counter()
                    compute(values)
                    taken[name].append((time.perf_counter() - started) / len(values))
    finally:
        torch.set_num_threads(threads)
    # The first round warms up.
    return {name: min(times[1:]) for name, times in taken.items()}


def _check_installed(name: str) -> None:
    if not engines.is_installed(name):
        raise Unusable("is not installed here", f"pip install {ENGINES[name].install}, or ")


def _name(engine: Engine | None) -> EngineName:
    return "torch" if engine is None else engine.name  # pyright: ignore[reportReturnType]
