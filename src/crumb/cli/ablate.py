"""``crumb ablate``: CRUMB with one thing changed at a time, a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tyro

from crumb.cli.parsing import parse_parts, take_preset
from crumb.cli.tables import align, check_free
from crumb.cli.tune import for_method
from crumb.errors import InputError
from crumb.experiments.ablation import Ablation, ablate
from crumb.experiments.arms import AblateConfig, arms
from crumb.experiments.grid import default_folder
from crumb.files import write_csv, write_text
from crumb.methods.crumb import CrumbConfig
from crumb.nets.config import NetworkConfig
from crumb.reports import ablation as analysis
from crumb.stream.run import open_dataset

_DOC = (
    "Take CRUMB apart: run it with one thing changed at a time, beside the run that is whole. "
    "crumb ablate list names the arms. The flags of network and method are those of the run that "
    "is whole; --preset NAME takes them from a preset or a .toml file. The "
    "same call goes on after an interruption."
)


def run(words: Sequence[str]) -> None:
    """List the arms; or parse, run what is not done yet, print and write the table."""
    if words and words[0] == "list":
        if words[1:]:
            raise InputError(f"crumb ablate list {words[1]}", "takes no words", "leave them out")
        print(listing())
        return
    config, network, method = settings(words)
    folder = config.output
    if folder is None:
        folder = default_folder("ablate", config, network, open_dataset(config.dataset, ()))
    paths = [folder / name for name in ("ablation.md", "ablation.csv", "ablation_tests.csv")]
    marks = [analysis.MARK, ",".join(analysis.LONG_HEAD), analysis.TESTS_MARK]
    check_free(dict(zip(paths, marks, strict=True)), "an ablation study")
    outcome = ablate(config, network, method)
    # What is finished is looked at and written as one, so that no call drops the arms of another.
    with outcome.grid.tables():
        study = outcome.look()
        rows = analysis.compared(study)
        if any(study.records.values()):
            show(study, rows)
            write(study, rows, *paths)
            print("\n".join(map(str, paths)))
    outcome.grid.end()
    if not any(study.records.values()):
        raise InputError("crumb ablate", "has no finished run", "; ".join(analysis.notes(study)))


def settings(words: Sequence[str]) -> tuple[AblateConfig, NetworkConfig, CrumbConfig]:
    """The three configurations of the run that is whole: flags over preset over defaults.

    Raises:
        InputError: words, preset or the names of arms do not fit.
    """
    preset, rest = take_preset(words)
    parsed = parse_parts(
        "crumb ablate",
        _DOC,
        rest,
        for_method(preset, "crumb", AblateConfig),
        stream=AblateConfig(dataset=tyro.MISSING),
        network=NetworkConfig(),
        method=CrumbConfig(),
    )
    # What is wrong with them is said before any data is opened.
    _ = parsed.stream.names
    return parsed.stream, parsed.network, parsed.method


def listing() -> str:
    """Every arm in a line: its name and what it shows."""
    known = {name: arm["about"]["shows"] for name, arm in arms().items()}
    width = max(map(len, known))
    return "\n".join(f"{name:{width}}  {shows}" for name, shows in known.items())


def show(study: Ablation, rows: Sequence[analysis.Beside]) -> None:
    """Print the tables."""
    print(align([list(analysis.HEAD), *analysis.table(study)]))
    print("\n".join([*analysis.notes(study), ""]))
    if rows:
        print(align([list(analysis.TEST_HEAD), *analysis.tests(rows)]))
        print("\n".join([*analysis.test_notes(rows), ""]))


def write(
    study: Ablation, rows: Sequence[analysis.Beside], markdown: Path, table: Path, tests: Path
) -> None:
    """The tables in Markdown, one with a row for each run, and one of the tests."""
    write_text(markdown, analysis.markdown(study))
    header, runs = analysis.long_table(study)
    write_csv(table, runs, header)
    write_csv(tests, analysis.long_tests(rows), analysis.LONG_TEST_HEAD)
