"""Run the targets: ``python -m fuzz [--seconds S] [--jobs N] [TARGET ...]``."""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
_CRASHES = _FOLDER / "crashes"
_CORPUS = _FOLDER / "corpus"
# Python modules that the readers use. Their branches guide the fuzzer too.
_FOLLOWED = ["crumb", "tomllib", "PIL", "torch._weights_only_unpickler"]


def main() -> int:
    """Run every named target in its own process. Returns 1 as soon as an input breaks one."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="targets to run (default: all)")
    parser.add_argument("--seconds", type=int, default=600, help="seconds for each target")
    parser.add_argument("--jobs", type=int, default=1, help="targets to run at the same time")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random changes")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return _run_inside(options.targets[0], options.seconds, options.seed)
    from fuzz.targets import TARGETS

    if unknown := [name for name in options.targets if name not in TARGETS]:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    kind = "atheris" if find_spec("atheris") else "random changes (atheris is not installed)"
    print(f"{options.seconds} s for each target with {kind}", flush=True)
    return _run_all(options.targets or [*TARGETS], options.seconds, options.jobs, options.seed)


def _run_all(names: list[str], seconds: int, jobs: int, seed: int) -> int:
    waiting, running = [*names], dict[Future[tuple[int, str]], tuple[str, float]]()
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.pop(0)
                task = pool.submit(_run_process, name, seconds, seed)
                running[task] = (name, time.monotonic())
            for task in wait(running, return_when=FIRST_COMPLETED).done:
                name, start = running.pop(task)
                code, output = task.result()
                count = re.findall(r"number_of_executed_units: +(\d+)", output)
                taken = time.monotonic() - start
                executions = f"{int(count[-1]):,}" if count else "?"
                print(f"{name:24}{executions:>12} executions {taken:6.0f} s", flush=True)
                if code:
                    print(f"{output[-4000:]}\n{name} broke: the input lies in {_CRASHES}/")
                    # Running targets may finish.
                    return 1
    return 0


def _run_process(name: str, seconds: int, seed: int) -> tuple[int, str]:
    words = ["--inside", name, "--seconds", str(seconds), "--seed", str(seed)]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def _run_inside(name: str, seconds: int, seed: int) -> int:
    _CRASHES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if find_spec("atheris"):
            return _follow_coverage(name, seconds, seed, Path(folder))
        return _mutate(name, seconds, seed, Path(folder))


def _follow_coverage(name: str, seconds: int, seed: int, folder: Path) -> int:
    from fuzz.mutate import TOKENS

    # It is not a dependency, so its types are unknown.
    atheris: Any = import_module("atheris")
    with atheris.instrument_imports(include=_FOLLOWED):
        from fuzz.targets import TARGETS
    (folder / "target").mkdir()
    target = TARGETS[name](folder / "target")
    corpus = _CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(target.seeds):
        (corpus / f"seed{number}").write_bytes(content)
    words = folder / "dictionary"
    quoted = ("".join(f"\\x{byte:02x}" for byte in token) for token in TOKENS)
    words.write_text("".join(f'"{token}"\n' for token in quoted))
    options = {
        "max_total_time": seconds,
        "seed": seed + 1,
        "max_len": target.largest,
        "dict": words,
        "timeout": 60,
        "rss_limit_mb": 8192,
        "artifact_prefix": f"{_CRASHES}/{name}-",
        "print_final_stats": 1,
        "verbosity": 0,
    }
    flags = [f"-{flag}={value}" for flag, value in options.items()]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], target.check)
    # This exits the process.
    atheris.Fuzz()
    return 0


def _mutate(name: str, seconds: int, seed: int, folder: Path) -> int:
    from fuzz.mutate import mutated
    from fuzz.targets import TARGETS

    target = TARGETS[name](folder)
    draw = random.Random(seed)
    executions, end = 0, time.monotonic() + seconds
    content = b""
    try:
        while time.monotonic() < end:
            content = mutated(target.seeds, draw, target.largest)
            executions += 1
            target.check(content)
    except Exception:
        (_CRASHES / f"{name}-{seed}-{executions}").write_bytes(content)
        raise
    finally:
        print(f"number_of_executed_units: {executions}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
