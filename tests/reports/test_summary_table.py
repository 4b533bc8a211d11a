"""The table below ``crumb stream`` and ``crumb demo``."""

from __future__ import annotations

from pathlib import Path

from results_folders import record

from crumb.cli.tables import summary_table
from crumb.data.index import Dataset
from crumb.nets.config import NetworkConfig
from crumb.reports.intervals import PLUS_MINUS
from crumb.stream.config import StreamConfig
from crumb.stream.run import default_output


def test_the_sign_stands_for_the_deviation_and_says_so():
    *_, row, meaning = summary_table({"er": [record(0, 50.0), record(1, 60.0)]}).splitlines()
    assert row.split()[:4] == ["er", "55.0", "±", "7.1"]
    assert meaning == PLUS_MINUS


def test_one_run_has_no_deviation():
    table = summary_table({"er": [record(0, 50.0)]})
    assert table.splitlines()[-1].split() == ["er", "50.0", "70.0", "40.0", "1,000", "10", "1"]
    assert "±" not in table


def test_modes_and_data_sets_have_results_of_their_own():
    places = set()
    for name in ("cups-data", "balls-data"):
        dataset = Dataset(name, Path(name), Path(name), None, {}, ())  # type: ignore[arg-type]
        for mode in ("paper", "strict"):
            config = StreamConfig(dataset=Path(name), mode=mode)
            places.add(default_output(config, NetworkConfig(), dataset).as_posix())
    assert places == {
        f"outputs/{name}/class_instance{mode}/crumb_efficientnet_lite0"
        for name in ("cups-data", "balls-data")
        for mode in ("", "_strict")
    }
