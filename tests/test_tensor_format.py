"""Large tensors go to a file and come back in parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from crumb import lazy
from crumb.errors import InputError
from crumb.files import bytes_of, digest, read_tensors, write_tensors
from crumb.lazy import LazyTensor, lazy_states, parts_of
from crumb.memory.encoded import EncodedMemory, as_rows
from crumb.memory.replay import ReplayMemory

TENSORS: dict[str, Tensor] = {
    "z": torch.arange(12.0).view(3, 4),
    "a": torch.arange(7, dtype=torch.uint8),
    "half": torch.ones(2, 2, dtype=torch.bfloat16),
    "flag": torch.tensor([True, False]),
    "number": torch.tensor(7),
    "empty": torch.empty(0, 5, dtype=torch.int16),
    "ü": torch.tensor([65_535]).to(torch.uint16),
}


@pytest.mark.parametrize("meta", [{}, {"about": 'ü "quoted"\n\x01\x7f\u2028'}])
@pytest.mark.parametrize("part", [1, 1 << 20])
def test_file_is_that_of_safetensors(
    meta: Mapping[str, str], part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lazy, "PART_BYTES", part)
    path = tmp_path / "a.safetensors"
    write_tensors(path, TENSORS, meta)
    assert path.read_bytes() == save(TENSORS, metadata=dict(meta) or None)


def test_no_tensors_are_a_file(tmp_path: Path):
    write_tensors(tmp_path / "a", {}, {"x": "y"})
    assert read_tensors(tmp_path / "a", "") == ({}, {"x": "y"})


@pytest.mark.parametrize("name", TENSORS)
def test_tensor_read_when_it_is_used_is_the_same(name: str, tmp_path: Path):
    write_tensors(tmp_path / "a", TENSORS, {})
    found = read_tensors(tmp_path / "a", "", name)[0][name]
    assert found.shape == TENSORS[name].shape
    assert found.dtype == TENSORS[name].dtype
    assert digest({name: found}) == digest({name: TENSORS[name]})
    assert torch.equal(found, TENSORS[name])


def test_operations_use_all_rows():
    plain = torch.arange(12).view(4, 3)
    later = LazyTensor((4, 3), torch.int64, lambda start, stop: plain[start:stop])
    assert isinstance(later, Tensor)
    assert (len(later), later.nbytes) == (4, 96)
    assert (later + 1).tolist() == (plain + 1).tolist()
    assert torch.equal(later[[3, 0]], plain[[3, 0]])
    assert torch.equal(torch.cat([plain, later]), torch.cat([plain, plain]))
    assert torch.zeros(4, 3).copy_(later).tolist() == plain.tolist()


def test_parts_are_small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lazy, "PART_BYTES", 100)
    turned = torch.arange(70, dtype=torch.uint8).view(7, 10).T
    parts = list(parts_of(turned))
    assert torch.equal(torch.cat(parts), turned)
    assert max(part.untyped_storage().nbytes() for part in parts) <= 100
    assert [len(part) for part in parts_of(torch.zeros(3, 500, dtype=torch.uint8))] == [1, 1, 1]


class Watched:
    """Notes the most bytes of exemplars that exist at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = 0
        rows_between = lazy.rows_between
        monkeypatch.setattr(lazy, "PART_BYTES", 400)
        monkeypatch.setattr(LazyTensor, "whole", None)
        for module in ("crumb.lazy", "crumb.memory.encoded"):
            monkeypatch.setattr(f"{module}.rows_between", self.noting(rows_between))

    def noting(self, rows_between):
        def noted(tensor: Tensor, start: int, stop: int) -> Tensor:
            part = rows_between(tensor, start, stop)
            if isinstance(tensor, LazyTensor):
                self.most = max(self.most, len(bytes_of(part)))
            return part

        return noted


def memory_of(kind: str, filled: bool) -> ReplayMemory:
    if kind == "equal":
        memory = ReplayMemory(60, (100,), torch.uint8)
        rows = torch.arange(6_000).remainder(251).to(torch.uint8).view(60, 100)
    else:
        memory = EncodedMemory(10_000, 0, 1, "a capacity")
        rows = as_rows([bytes([1 + n]) * (50 + n) for n in range(60)])
    for start in range(0, 60 if filled else 0, 10):
        memory.add(start // 10 % 3, rows[start : start + 10])
    return memory


@pytest.mark.parametrize("kind", ["equal", "encoded"])
def test_memory_is_saved_and_loaded_in_parts(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    memory, path = memory_of(kind, filled=True), tmp_path / "a"
    expected = memory.state_dict()
    write_tensors(tmp_path / "plain", expected, {})
    monkeypatch.setattr("crumb.memory.encoded._IMAGES", 4)
    watched = Watched(monkeypatch)
    with lazy_states():
        write_tensors(path, memory.state_dict(), {})
    assert path.read_bytes() == (tmp_path / "plain").read_bytes()
    assert 0 < watched.most <= 400
    watched.most = 0
    again = memory_of(kind, filled=False)
    again.load_state_dict(read_tensors(path, "", "rows")[0])
    assert 0 < watched.most <= 4 * 110
    for name, value in again.state_dict().items():
        assert torch.equal(value, expected[name])


def test_state_is_a_copy_outside_the_context():
    memory = memory_of("equal", filled=True)
    with lazy_states():
        pass
    before = memory.state_dict()["rows"]
    first = before[0].clone()
    memory.overwrite(0, 0, 0, torch.zeros(100, dtype=torch.uint8))
    assert torch.equal(before[0], first)


def test_file_that_is_cut_before_it_is_used(tmp_path: Path):
    path = tmp_path / "a"
    write_tensors(path, {"rows": torch.zeros(8, 4)}, {})
    rows = read_tensors(path, "try this", "rows")[0]["rows"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="is not a whole safetensors file; try this"):
        list(parts_of(rows))
    path.unlink()
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        list(parts_of(rows))
