"""``crumb ablate``: the ablation study of CRUMB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crumb.cli.flags import HELP, HelpAsked
from crumb.cli.parsing import PRESET, parse_parts, take_preset
from crumb.cli.tables import check_free
from crumb.cli.tune import for_method
from crumb.errors import InputError
from crumb.experiments.ablation import Ablation, ablate
from crumb.experiments.arms import AblateConfig, arms
from crumb.experiments.grid import default_folder
from crumb.files import write_text
from crumb.kinds import UNSET
from crumb.methods.crumb import CrumbConfig
from crumb.nets.config import NetworkConfig
from crumb.reports import ablation as tables
from crumb.stream.tasks import open_dataset

_DOC = (
    "Ablation study of CRUMB: run it with one thing changed at a time and compare with the "
    "unablated run. crumb ablate list names the arms. The flags of network and method set up the "
    "unablated run. Repeat the same call to resume after an interruption."
)


def run(words: Sequence[str]) -> None:
    """List the arms, or run the missing runs, then print and write the tables."""
    if words and words[0] == "list":
        if {*HELP} & {*words[1:]}:
            raise HelpAsked("crumb ablate list", "List the arms of the ablation study.", (), False)
        if words[1:]:
            raise InputError(f"crumb ablate list {words[1]}", "takes no words", "leave them out")
        print(listing())
        return
    config, network, method = settings(words)
    folder = config.output
    if folder is None:
        folder = default_folder("ablate", config, network, open_dataset(config.dataset, ()))
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


def settings(words: Sequence[str]) -> tuple[AblateConfig, NetworkConfig, CrumbConfig]:
    """The three configurations of the unablated run. Flags override the preset, the preset
    overrides defaults.

    Raises:
        InputError: words, preset or the names of arms do not fit.
    """
    preset, rest = take_preset(words)
    parsed = parse_parts(
        "crumb ablate",
        _DOC,
        rest,
        for_method(preset, "crumb", AblateConfig),
        (PRESET,),
        stream=AblateConfig(dataset=UNSET),
        network=NetworkConfig(),
        method=CrumbConfig(),
    )
    # Report bad flags before any data is opened.
    _ = parsed.stream.names
    return parsed.stream, parsed.network, parsed.method


def listing() -> str:
    """One line per arm: its name and what it shows."""
    known = {name: arm["about"]["shows"] for name, arm in arms().items()}
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
