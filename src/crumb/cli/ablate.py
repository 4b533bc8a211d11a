"""``crumb ablate``: the ablation study of a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crumb.cli.parsing import PRESET, option, parse, parse_parts, take_preset
from crumb.cli.tables import check_free
from crumb.cli.tune import for_method
from crumb.errors import InputError
from crumb.experiments.ablation import Ablation, ablate, usual_folder
from crumb.experiments.arms import ABLATED, CRUMB, AblateConfig, AblatedMethod, arms
from crumb.files import write_text
from crumb.kinds import UNSET
from crumb.methods.registry import find_method
from crumb.nets.config import NetworkConfig
from crumb.reports import ablation as tables
from crumb.stream.tasks import open_dataset

_DOC = (
    "Ablation study of CRUMB or crumb2: run it with one thing changed at a time and compare with "
    "the unablated run. crumb ablate list names the arms. The flags of network and method set up "
    "the unablated run. Repeat the same call to resume after an interruption."
)


@dataclass(frozen=True)
class ListArms:
    """List the arms of the ablation study of a method."""

    method: AblatedMethod = CRUMB
    """Method to ablate."""


def run(words: Sequence[str]) -> None:
    """List the arms, or run the missing runs, then print and write the tables."""
    if words and words[0] == "list":
        print(listing(parse(ListArms, words[1:], "crumb ablate list").method))
        return
    config, network, method = settings(words)
    folder = config.output
    if folder is None:
        folder = usual_folder(config, network, open_dataset(config.dataset, ()))
    check_free({folder / name: mark for name, mark in tables.MARKS.items()}, "an ablation study")
    outcome = ablate(config, network, method)
    # Read the finished runs and write the tables under one lock, so that parallel calls keep each
    # other's arms.
    with outcome.grid.tables():
        study = outcome.look()
        if any(study.records.values()):
            print(tables.text(study))
            print("\n".join(map(str, write(study, folder))))
    outcome.grid.end()
    if not any(study.records.values()):
        raise InputError("crumb ablate", "has no finished run", "; ".join(tables.notes(study)))


def settings(words: Sequence[str]) -> tuple[AblateConfig, NetworkConfig, Any]:
    """The three configurations of the unablated run. Flags override the preset, the preset
    overrides defaults.

    Raises:
        InputError: words, preset or the names of arms do not fit.
    """
    preset, rest = take_preset(words)
    given = option(rest, "--method")
    # The parser refuses other methods.
    name = given if given in ABLATED else CRUMB
    parsed = parse_parts(
        "crumb ablate" if given is None else f"crumb ablate --method {given}",
        _DOC,
        rest,
        for_method(preset, name, AblateConfig),
        (PRESET,),
        stream=AblateConfig(dataset=UNSET),
        network=NetworkConfig(),
        method=find_method(name).Config(),
    )
    # Report bad flags before any data is opened.
    _ = parsed.stream.names
    return parsed.stream, parsed.network, parsed.method


def listing(method: str) -> str:
    """One line per arm: its name and what it shows."""
    known = {name: arm["about"]["shows"] for name, arm in arms(method).items()}
    width = max(map(len, known))
    return "\n".join(f"{name:{width}}  {shows}" for name, shows in known.items())


def write(study: Ablation, folder: Path) -> list[Path]:
    """Write the tables: Markdown, one CSV with a row per run, and one with the statistical tests.

    Returns:
        their paths.
    """
    texts = {
        "ablation.md": tables.markdown(study),
        "ablation.csv": tables.long_table(study).csv(),
        "ablation_tests.csv": tables.long_tests(tables.compared(study)).csv(),
    }
    for name, content in texts.items():
        write_text(folder / name, content)
    return [folder / name for name in texts]
