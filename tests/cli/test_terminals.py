"""Output goes to any terminal and any pipe, whatever characters it knows."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from PIL import Image

from crumb.cli.main import COMMANDS, main

ENCODINGS = ["ascii", "latin-1", "cp437", "shift-jis"]


def printed(encoding: str, *words: str, code: int = 0) -> bytes:
    """What a command prints where this is the encoding of the terminal."""
    content = BytesIO()
    with TextIOWrapper(content, encoding, write_through=True) as terminal:
        with redirect_stdout(terminal), redirect_stderr(terminal):
            assert main(words) == code
        # Who calls it finds the stream as it was.
        assert terminal.errors == "strict"
        assert b"failed in a way that was not foreseen" not in content.getvalue()
        return content.getvalue()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command(command: str):
    assert b"usage" in printed("ascii", command, "--help")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("words", ["--help", "methods", "presets", "data list", "data list core50"])
def test_tables(encoding: str, words: str):
    assert printed(encoding, *words.split())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_names_of_any_script(encoding: str, tmp_path: Path):
    for number, name in enumerate(("Äpfel", "果物", "чашка", "😀", "x–y±")):
        for item in range(2):
            path = tmp_path / f"mine é/{name}/{item}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (40 * number, 90 * item, 9)).save(path)
    folder, root = str(tmp_path / "set 果"), str(tmp_path / "mine é")
    index = ("index", "folder", root, "--output", folder)
    printed(encoding, *index)
    printed(encoding, "data", "stats", folder)
    printed(encoding, "data", "stats", f"{folder}猫", code=2)
    printed(encoding, "猫", code=2)


def test_bytes_of_a_name_that_are_no_text(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("crumb.cli.main._help", lambda: "a\udcffb")
    assert printed("utf-8", "--help") == b"a\\udcffb\n"
