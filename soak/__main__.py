"""Kill streams, and run a long one: ``python -m soak [--kills N] [--frames N] [--seed S]``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    """Run both parts. Returns 1 if one of them fails."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="streams to kill (0: none)")
    parser.add_argument(
        "--frames",
        type=int,
        default=1_000_000,
        help="frames of the long run (0: no long run)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all draws")
    parser.add_argument(
        "--output", type=Path, default=Path("build/soak"), help="folder of the report"
    )
    options = parser.parse_args()
    # Set before torch is imported: nothing here is large enough for several threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from soak.frames import SMALLEST, run_frames
    from soak.kills import run_kills
    from soak.report import frames_pass, frames_text, kills_pass, kills_text, write_report

    if options.kills < 0:
        parser.error(f"--kills {options.kills}: is below 0")
    if options.frames and options.frames < SMALLEST:
        parser.error(f"--frames {options.frames}: is below {SMALLEST:,}")
    kills = run = None
    passed = True
    # Run it first, while the memory of this process holds nothing else.
    if options.frames:
        run = run_frames(options.frames, options.seed)
        print(frames_text(run), end="\n\n", flush=True)
        passed &= frames_pass(run)
    if options.kills:
        kills = run_kills(options.kills, options.seed)
        print(kills_text(kills), end="\n\n", flush=True)
        passed &= kills_pass(kills)
    for path in write_report(options.output, kills, run):
        print(path)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
