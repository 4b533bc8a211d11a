"""Time and memory of the codebook assignment against its plain form, as ratios within one run.

The plain form is ``argmax(x @ normalize(blocks).T)`` with the whole similarity matrix in memory.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.profiler import ProfilerActivity, profile

from crumb.codebook.codebook import Codebook

CASES = {
    "squeezenet1_0, batch 21": (21, 512, 13, 13),
    "squeezenet1_0, batch 128": (128, 512, 13, 13),
    "efficientnet_lite0, batch 21": (21, 192, 7, 7),
}


def plain(codebook: Codebook, features: Tensor) -> Tensor:
    """The whole similarity matrix at once, indices as int64."""
    slices = features.permute(0, 2, 3, 1).reshape(-1, codebook.blocks.shape[1])
    return (slices @ normalize(codebook.blocks, dim=1).T).argmax(1).view(len(features), -1)


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Median of several calls, after one that warms up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_bytes(function: Callable[[], object]) -> int:
    """Most bytes allocated at once during a call, above what was held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()  # type: ignore[attr-defined]
            peak = max(peak, held)
    return peak


def measure(shape: tuple[int, int, int, int], repeats: int) -> dict[str, float]:
    """One row of the table."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(shape, generator=generator).relu()
    codebook = Codebook(torch.randn(256, 16, generator=generator), shape[1:])
    with torch.inference_mode():
        assert torch.equal(codebook.encode(features).long(), plain(codebook, features))
        ours, theirs = (lambda: codebook.encode(features)), (lambda: plain(codebook, features))
        return {
            "seconds": seconds(ours, repeats),
            "plain_seconds": seconds(theirs, repeats),
            "peak_bytes": peak_bytes(ours),
            "plain_peak_bytes": peak_bytes(theirs),
        }


def main() -> None:
    """Print the table; write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = {name: measure(shape, options.repeats) for name, shape in CASES.items()}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}")
    print(f"{'case':30} {'time / plain':>13} {'peak bytes / plain':>19}")
    for name, row in rows.items():
        time_ratio = row["seconds"] / row["plain_seconds"]
        byte_ratio = row["peak_bytes"] / row["plain_peak_bytes"]
        print(f"{name:30} {time_ratio:13.2f} {byte_ratio:19.3f}")
    if options.json:
        options.json.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
