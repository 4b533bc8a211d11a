"""Write the presets from the table of the settings that were published.

A row of the table is one data set, method and protocol, as one script of the original starts it.
Columns: dataset, method, protocol, mode, backbone, lr, ..., other (``key=value`` pairs), source.

    python -m tools.make_presets TABLE.csv [--output src/crumb/presets]

A preset is ``<data set>/<method>.toml``; where the protocols of a script have other values,
``<data set>/<method>_<protocol>.toml`` for each. Variants of CRUMB come into ``ablation/``. Rows
that no preset can stand for are counted on the standard output, with the reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tools.preset_notes import note
from tools.preset_settings import Group, Row, Sections, read_table, sections, why_not

from crumb.errors import InputError
from crumb.files import write_text

PAPER = (
    "Talbot et al., Tuned Compositional Feature Replays for Efficient Stream Learning, "
    "TNNLS 2025, arXiv 2104.02206"
)
BASE = "REMIND_base_init"
"""Its rows are the first stage of REMIND, and part of its presets."""


def toml_text(about: Mapping[str, str], parts: Sections) -> str:
    """A preset as TOML."""
    lines = ["[about]"]
    lines += [f"{key} = {json.dumps(about[key])}" for key in ("source", "paper")]
    lines += ['note = """', about["note"], '"""']
    for name, part in parts.items():
        lines += ["", f"[{name}]", *(f"{key} = {json.dumps(part[key])}" for key in part)]
    return "\n".join(lines) + "\n"


def presets(rows: Sequence[Row]) -> dict[str, str]:
    """The text of each preset, by name."""
    bases = {(row.where, row.protocol): row for row in rows if row.method == BASE}
    groups: dict[str, list[Row]] = {}
    for row in rows:
        refused = why_not(row)
        if row.method != BASE and (not refused or refused.startswith("starts")):
            groups.setdefault(row.preset, []).append(row)
    texts = {}
    for name, members in groups.items():
        for suffix, group in _split(members, bases):
            row = group.chosen[0]
            sources = dict.fromkeys(row.source for row in group.chosen)
            about = {"source": ", ".join(sources), "paper": PAPER, "note": note(group)}
            parts = sections(row, group.base)
            if len(group.chosen) == 1 and "stream" in parts:
                first, *rest = parts["stream"].items()
                parts["stream"] = dict([first, ("protocol", row.protocol), *rest])
            texts[name + suffix] = toml_text(about, parts)
    return texts


def _split(
    members: Sequence[Row], bases: Mapping[tuple[str, str], Row]
) -> Iterator[tuple[str, Group]]:
    """One group for all protocols, or one for each where their settings differ."""
    usable = sorted((row for row in members if not why_not(row)), key=_rank)
    if not usable:
        return
    refused = [row for row in members if "never laid out" in (why_not(row) or "")]
    chosen: dict[str, Row] = {}
    for row in usable:
        chosen.setdefault(row.protocol, row)
    others = [row for row in members if row not in [*chosen.values(), *refused]]
    base = {
        protocol: bases.get((row.where, protocol)) if row.ours == "remind" else None
        for protocol, row in chosen.items()
    }
    distinct = [sections(row, base[protocol]) for protocol, row in chosen.items()]
    if all(parts == distinct[0] for parts in distinct):
        rows = [chosen[protocol] for protocol in sorted(chosen)]
        yield "", Group(rows, others, refused, base[rows[0].protocol])
        return
    for protocol, row in chosen.items():
        same = [other for other in others if other.protocol == protocol]
        yield f"_{protocol}", Group([row], same, [], base[protocol])


def _rank(row: Row) -> bool:
    """Scripts of a data set's own come before those that start several."""
    folder = {"ilab2mlight": "ilab"}.get(row.where, row.where)
    return f"optimal_{folder}/" not in row.source


def left_out(rows: Iterable[Row]) -> Counter[tuple[str, str]]:
    """How many rows no preset stands for, by method and reason."""
    reasons = ((row.method, why_not(row)) for row in rows)
    return Counter((method, reason) for method, reason in reasons if reason)


def main() -> None:
    """Read the command line."""
    usual = Path(__file__).parents[1] / "src" / "crumb" / "presets"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path, help="CSV file of the published settings")
    parser.add_argument("--output", type=Path, default=usual, help="folder of the presets")
    arguments = parser.parse_args()
    try:
        rows = read_table(arguments.table)
        texts = presets(rows)
        for name, text in texts.items():
            write_text(arguments.output / f"{name}.toml", text)
    except InputError as error:
        parser.error(error.in_flags())
    for (method, reason), count in left_out(rows).items():
        sys.stdout.write(f"no preset for {count} rows of {method}: {reason}\n")
    sys.stdout.write(f"{len(texts)} presets of {len(rows)} rows\n")


if __name__ == "__main__":
    main()
