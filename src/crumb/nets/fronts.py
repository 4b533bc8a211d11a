"""What computes the frozen front of a network: torch, or the engine that was asked for.

An engine is used only where its features agree with torch's. ``auto`` measures once which one is
fastest, and remembers it beside the exported front, so that later calls on the same machine compute
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
"""Largest difference from torch's features, in standard deviations of these."""
FASTER = 0.9
"""Share of torch's time that an engine may take to be chosen by ``auto``."""
_FORMAT, _VERSION = "crumb-front-choice", 1
_ROUNDS = 4
# Without a folder to remember a measured choice in. The engine that was usually fastest comes
# first (benchmarks/README.md).
_USUAL: tuple[EngineName, ...] = ("openvino", "onnxruntime")
Weights = tuple[tuple[int, int], ...]
"""Where each tensor of a front lies, and how often it was written in place."""
_REMEDY = "remove it"
# Of this process: networks with the same front share an engine, and one choice.
_OPEN: WeakValueDictionary[str, Engine] = WeakValueDictionary()
_CHOSEN: dict[str, str] = {}
_SETTLING = threading.RLock()


class Unusable(Exception):
    """An engine cannot compute a front.

    Args:
        problem: why, in a few words.
        remedy: what to do about it, with "or" at its end.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.remedy = remedy


class RefusedEngineError(InputError):
    """Raised if the engine that was asked for cannot compute the front.

    Args:
        name: of the engine.
        reason: why it cannot.
        otherwise: what to do if the reason stays; torch by default.
    """

    def __init__(self, name: str, reason: Unusable, otherwise: str = "") -> None:
        otherwise = otherwise or f"give {setting('engine', 'torch')}"
        super().__init__(setting("engine", name), str(reason), f"{reason.remedy}{otherwise}")
        self._name, self._reason = name, reason

    def for_results(self) -> RefusedEngineError:
        """The same where there are results with this engine, which torch may not continue."""
        return RefusedEngineError(self._name, self._reason, f"give another {setting('output')}")


class FrontEngine:
    """The engine of a network, which is opened when the first features are wanted.

    Args:
        wanted: torch, auto or the name of an engine.
        or_torch: use torch where the engine that is wanted cannot be used.
    """

    def __init__(self, wanted: EngineName, or_torch: bool = False) -> None:
        self._wanted: EngineName = wanted
        self._or_torch = or_torch
        self._tensors: list[Mapping[str, Tensor | None]] = []
        self._weights: Weights | None = None
        self._engine: Engine | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A session cannot be pickled. It is opened again when features are wanted.
        return self.__dict__ | {"_tensors": [], "_weights": None, "_engine": None}

    def of(self, network: SplitNetwork) -> Engine | None:
        """What computes the front of this network; None is torch. ``auto`` ends in a choice.

        The choice is written into the configuration of the network. The engine is opened again
        after the weights of the front have changed.

        Raises:
            InputError: the engine cannot be used, and nothing else may be.
        """
        if self._wanted == "torch":
            return None
        if self._weights is None or self._weights != _written(self._tensors):
            with _SETTLING:
                self._tensors = _tensors_of(network)
                # Another thread may have been first.
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
    """Let an engine compute the front of a network; its configuration says so.

    Call it when the network is on its device and its precision is set.

    Args:
        network: with torch, which every network begins with.
        wanted: torch, auto or the name of an engine.
        or_torch: use torch where that engine cannot be used here.

    Raises:
        InputError: the engine is not installed, or not for such a network.
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
    """See that the front is one that engines compute.

    Raises:
        Unusable: it is trained, on a GPU or in bfloat16.
    """
    if network.config.trainable == "all":
        raise Unusable(f"has no effect with {setting('trainable', 'all')}, which has no front")
    if next(network.tail.parameters()).device.type != "cpu":
        problem = "computes on the CPU, and the network is on a GPU"
        raise Unusable(problem, f"give {setting('device', 'cpu')}, or ")
    if network.bf16:
        raise Unusable(f"computes in float32, not with {setting('precision', 'bf16')}")


def open_engine(network: SplitNetwork, name: str) -> Engine:
    """The front of a network in an engine, whose features were compared with torch's.

    Raises:
        Unusable: the engine is not installed, the front cannot be exported, or the features are not
            those of torch.
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
    # What an engine raises differs with the engine and the operation that it lacks.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise Unusable(f"cannot compute this front ({reason})") from error
    if not difference <= TOLERANCE:
        said = f"features differ from torch's by {difference:.1e} of their standard deviation"
        raise Unusable(f"cannot be used: its {said}")
    _OPEN[key] = engine
    return engine


def disagreement(network: SplitNetwork, engine: Engine) -> float:
    """Largest difference of a feature from torch's, in standard deviations, on a few images."""
    values = network.preprocessing(_pictures(network.preprocessing.size))
    with torch.no_grad():
        expected = network.front(values)
        found = engine(values)
    if not isinstance(expected, Tensor) or found.shape != expected.shape:
        return float("inf")
    difference = (found - expected).abs().max()
    return float(difference / expected.std().clamp_min(1e-30))


def _pictures(size: int) -> Tensor:
    """Three images, uint8 [3, 3, S, S]: noise of one pixel, of some, and of large patches."""
    generator = torch.Generator().manual_seed(0)
    pictures = []
    for grain in (1, 8, 32):
        cells = -(-size // grain)
        noise = torch.randint(0, 256, (3, cells, cells), generator=generator, dtype=torch.uint8)
        spread = noise.repeat_interleave(grain, 1).repeat_interleave(grain, 2)
        pictures.append(spread[:, :size, :size])
    return torch.stack(pictures)


def _fastest(network: SplitNetwork) -> Engine | None:
    """The engine that was chosen for fronts like this one; None is torch."""
    there = [name for name in ENGINES if engines.is_installed(name)]
    if not there:
        return None
    versions = [engines.version_of(name) for name in there]
    machine = torch.backends.cpu.get_cpu_capability()
    about = [*export.structure(network), str(versions), machine]
    key = hashlib.sha256(repr(about).encode()).hexdigest()[:16]
    if (name := _CHOSEN.get(key) or _remembered(key)) is None:
        with export.cache_alone():
            # Another process may have measured meanwhile.
            if (name := _remembered(key)) is None:
                return _choose(network, there, key)
    _CHOSEN[key] = name
    # A front with other weights may still disagree.
    return None if name == "torch" else _usable(network, [name]).get(name)


def _choose(network: SplitNetwork, there: list[str], key: str) -> Engine | None:
    """Measure which engine is fastest. Remember it if every engine could be measured.

    An engine may have failed for a passing reason, or because of these weights alone.
    """
    usable = _usable(network, there)
    if not usable:
        return None
    seconds = seconds_per_image(network, usable)
    best = min(usable, key=seconds.__getitem__)
    name = best if seconds[best] < FASTER * seconds["torch"] else "torch"
    if len(usable) == len(there):
        if not _remember(key, name, seconds):
            # Measured anew, another process might come to another engine.
            name = next(one for one in _USUAL if one in usable)
        _CHOSEN[key] = name
    return usable.get(name)


def _remember(key: str, name: str, seconds: Mapping[str, float]) -> bool:
    """Store a choice; False if there is no folder for it that can be written."""
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
    """Where the modules of a front hold their tensors.

    These are looked at before every image, and to walk through the modules takes ten times as long.
    """
    modules = network.front.modules()
    return [held for one in modules for held in (one._parameters, one._buffers) if held]


def _written(tensors: list[Mapping[str, Tensor | None]]) -> Weights:
    values = [value for held in tensors for value in held.values() if value is not None]
    return tuple((v.data_ptr(), 0 if v.is_inference() else v._version) for v in values)


def seconds_per_image(network: SplitNetwork, engines: Mapping[str, Engine]) -> dict[str, float]:
    """What torch and engines take for an image on one thread, the least of a few rounds."""
    ways: dict[str, Callable[[Tensor], Any]] = {"torch": network.front, **engines}
    pictures = network.preprocessing(_pictures(network.preprocessing.size))
    values = torch.cat([pictures, pictures[:1]])
    taken: dict[str, list[float]] = {name: [] for name in ways}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            # They take turns, so that other work on the machine meets all of them alike.
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
