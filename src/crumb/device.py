"""Devices and numeric settings of torch."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from threading import Barrier
from typing import TYPE_CHECKING, Literal

from crumb.errors import InputError, setting
from crumb.kinds import given

if TYPE_CHECKING:
    import torch

Precision = Literal["full", "tf32", "bf16"]


def choose_device(
    device: str | torch.device, precision: Precision = "full", deterministic: bool = True
) -> str:
    """Resolve ``auto``, check that a device exists, set how it computes.

    Args:
        device: auto, cpu, cuda or cuda:N.
        precision: tf32 lets a GPU round the factors of products to 10 bits; the others do not.
        deterministic: a GPU uses only operations whose result is always the same (it warns of an
            operation that has no such form), so that the same seed gives the same bytes.

    Raises:
        InputError: no such device on this machine, or tf32 on one that has none.
    """
    import torch

    if isinstance(device, torch.device):
        device = "cpu" if device.type == "cpu" else str(device)
    name: str = given("device", device, str)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    known = kind == "cpu" and not number
    if kind == "cuda" and torch.cuda.is_available() and re.fullmatch("[0-9]{0,3}", number):
        known = int(number or 0) < torch.cuda.device_count()
    if not known:
        raise InputError(
            setting("device", name), "does not exist on this machine", "give cpu or auto"
        )
    if kind == "cuda":
        # Read when the GPU's library of products is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.deterministic = deterministic
        torch.backends.cudnn.benchmark = not deterministic
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        # No operation here reads what it did not write.
        torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore
    elif precision == "tf32":
        raise InputError(setting("precision", "tf32"), "needs an NVIDIA GPU", "give full or bf16")
    return name


@contextmanager
def usual_torch() -> Iterator[None]:
    """Context with torch's initial settings: gradients, float32, CPU by default, no autocast.

    Global settings of the caller must not affect results.
    """
    import torch

    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if (usual := torch.get_default_dtype()) != torch.float32:
            stack.callback(torch.set_default_dtype, usual)
            torch.set_default_dtype(torch.float32)
        yield


def cores() -> int:
    """Number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def return_memory() -> None:
    """Return free memory to the system if the C library keeps it.

    What one thread allocates and another frees piles up: 100 MB in each run over 8,250 images.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def lone_workers(count: int, name: str) -> ThreadPoolExecutor:
    """A pool of threads in which torch operations are single-threaded.

    Several operations at once, each on one thread, are faster than one after the other on all
    threads, which wait for one another after each.

    Args:
        count: count of threads.
        name: the name that the threads begin with.

    Raises:
        InputError: the system does not start so many.
    """
    import torch

    def alone() -> None:
        # A thread's first look at the number sets it to what the last caller has set.
        torch.get_num_threads()
        torch.set_num_threads(1)

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, name, alone)
    started = Barrier(count + 1)
    try:
        for _ in range(count):
            pool.submit(started.wait)
        started.wait()
    except BaseException as error:
        # Threads that wait for others would keep the process from ending.
        started.abort()
        pool.shutdown(wait=False, cancel_futures=True)
        if isinstance(error, RuntimeError):
            raise InputError(
                setting("workers", count), "cannot be started", "give fewer"
            ) from error
        raise
    finally:
        # What the last caller has set holds for every thread that is started later.
        torch.set_num_threads(before)
    return pool
