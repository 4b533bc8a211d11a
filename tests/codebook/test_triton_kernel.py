"""The Triton kernel, on the CPU by Triton's interpreter and, where there is one, on a CUDA device.

The interpreter replaces Triton's language for good and must be asked for before Triton is
imported, so that it runs in a process of its own.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crumb.codebook import triton_kernel
from crumb.codebook.triton_kernel import OPTIONS, TILE, available, nearest_blocks

Assign = Callable[[Tensor, Tensor], Tensor]

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

INF, NAN = float("inf"), float("nan")
COUNTS = [1, 2, 63, 64, 65, 130]
LENGTHS = [1, 3, 8, 15, 16, 17, 48, 512]
BLOCKS = [1, 2, 63, 64, 65, 256, 257, 1000]


def interpreted(slices: np.ndarray, directions: np.ndarray) -> np.ndarray:
    return nearest_blocks(torch.from_numpy(slices), torch.from_numpy(directions)).numpy()


def ptx(capability: int, length: int, blocks: int) -> str:
    """The kernel compiled for a device that need not be there."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = {"LENGTH": length, "BLOCKS": blocks, **TILE}
    pointers = {"slices": "*fp32", "directions": "*fp32", "nearest": "*i64"}
    signature = {**pointers, "count": "i32", **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(triton_kernel._kernel(), signature, constants)
    target = GPUTarget("cuda", capability, 32)
    return triton.compile(source, target=target, options=OPTIONS).asm["ptx"]


def process(**environment: str) -> ProcessPoolExecutor:
    """A new Python whose environment has these variables from its start."""
    pool = ProcessPoolExecutor(1, get_context("spawn"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        pool.submit(int).result()
    return pool


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("interpreter", marks=needs_triton),
        pytest.param("cuda", marks=[needs_triton, needs_cuda]),
    ],
)
def assign(request: pytest.FixtureRequest) -> Iterator[Assign]:
    """``nearest_blocks`` for tensors on the CPU."""
    if request.param == "cuda":
        yield lambda slices, directions: nearest_blocks(slices.cuda(), directions.cuda()).cpu()
        return
    with process(TRITON_INTERPRET="1") as pool:
        yield lambda slices, directions: torch.from_numpy(
            pool.submit(interpreted, slices.numpy(), directions.numpy()).result()
        )


def reference(slices: Tensor, directions: Tensor) -> Tensor:
    return torch.max(slices @ directions, 1).indices


def integers(shape: tuple[int, int], largest: int, odd: float, seed: int) -> Tensor:
    """Small integers, of which a share ``odd`` is replaced by infinities and NaN."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-largest, largest + 1, shape, generator=generator).float()
    strange = torch.tensor([INF, -INF, NAN])[torch.randint(3, shape, generator=generator)]
    return torch.where(torch.rand(shape, generator=generator) < odd, strange, values)


@settings(max_examples=20)
@given(
    count=st.sampled_from(COUNTS),
    length=st.sampled_from(LENGTHS),
    blocks=st.sampled_from(BLOCKS),
    largest=st.integers(0, 3),
    odd=st.sampled_from([(0, 0), (0, 0), (0.01, 0), (0, 0.01), (0.1, 0.1)]),
    seed=st.integers(0, 10**6),
)
def test_choice_is_that_of_the_matrix_where_nothing_is_rounded(
    assign: Assign,
    count: int,
    length: int,
    blocks: int,
    largest: int,
    odd: tuple[float, float],
    seed: int,
):
    slices = integers((count, length), largest, odd[0], seed)
    directions = integers((length, blocks), largest, odd[1], seed + 1)
    nearest = assign(slices, directions)
    assert nearest.dtype == torch.int64
    assert torch.equal(nearest, reference(slices, directions))


@pytest.mark.parametrize(
    ("similarities", "nearest"),
    [
        ([0] * 130, 0),
        ([-INF] * 130, 0),
        ([-INF] * 128 + [-3e38, -INF], 128),
        ([NAN] * 130, 0),
        ([INF] * 100 + [NAN, INF, NAN], 100),
        ([-5] * 65 + [NAN] + [7] * 10, 65),
        ([-INF, NAN, INF], 1),
        ([-4, -2, -1, -2], 2),
        ([-2, -1, -1], 1),
        ([-1e-45, -0.0, 0, 1e-45, 1e-45], 3),
        ([-1, -0.0, 0], 1),
        ([1, 2] + [0] * 62 + [2], 1),
        ([1] + [0] * 127 + [2], 128),
    ],
)
def test_order_of_similarities(assign: Assign, similarities: list[float], nearest: int):
    assert assign(torch.ones(1, 1), torch.tensor([similarities]).float()).tolist() == [nearest]


@pytest.mark.parametrize("length", [1, 3, 16, 24])
@pytest.mark.parametrize("blocks", [1, 5, 64, 70])
def test_padding_never_wins_over_the_worst_similarities(assign: Assign, length: int, blocks: int):
    worst = torch.full((3, length), -INF)
    worst[1] = INF
    worst[2] = NAN
    assert assign(worst, torch.ones(length, blocks)).tolist() == [0, 0, 0]
    assert assign(worst, -torch.ones(length, blocks)).tolist() == [0, 0, 0]
    directions = -torch.ones(length, blocks)
    directions[:, -1] = 1
    assert assign(worst[1:2], directions).tolist() == [blocks - 1]


def test_products_that_vanish_from_below_are_ties_with_zero(assign: Assign):
    directions = torch.zeros(16, 3)
    directions[:, 0] = 1e-30
    assert assign(torch.full((1, 16), -1e-30), directions).tolist() == [0]


def test_the_largest_codebook(assign: Assign):
    slices, directions = integers((30, 2), 3, 0, 0), torch.zeros(2, 65_536)
    directions[:, -1] = torch.tensor([1.0, 2.0])
    directions[:, 40_000] = torch.tensor([-1.0, -2.0])
    nearest = assign(slices, directions)
    assert torch.equal(nearest, reference(slices, directions))
    assert set(nearest.tolist()) == {0, 40_000, 65_535}


@pytest.mark.parametrize("shape", [(200, 16, 256), (100, 48, 257), (90, 300, 130)])
def test_choice_is_that_of_the_matrix_but_for_rounding(assign: Assign, shape):
    generator = torch.Generator().manual_seed(0)
    count, length, blocks = shape
    slices = torch.randn(count, length, generator=generator)
    directions = torch.randn(length, blocks, generator=generator)
    check_near_ties(slices, directions, assign(slices, directions))


def test_tensors_need_not_be_contiguous(assign: Assign):
    slices, directions = integers((24, 70), 3, 0, 0).T, integers((75, 24), 3, 0, 1).T
    assert torch.equal(assign(slices, directions), reference(slices, directions))


def test_no_slices_give_no_indices(assign: Assign):
    nearest = assign(torch.empty(0, 8), torch.ones(8, 4))
    assert nearest.shape == (0,)
    assert nearest.dtype == torch.int64


def check_near_ties(slices: Tensor, directions: Tensor, nearest: Tensor) -> None:
    """Other choices than the matrix's differ from them by less than 1e-5 of the similarity."""
    expected = reference(slices, directions)
    (different,) = torch.nonzero(nearest != expected, as_tuple=True)
    rows = slices[different].double()
    chosen, largest = (
        (rows * directions.T[columns[different]]).sum(1) for columns in (nearest, expected)
    )
    torch.testing.assert_close(chosen, largest, rtol=1e-5, atol=0)


@needs_triton
@needs_cuda
@pytest.mark.parametrize("shape", [(200_000, 16, 256), (50_001, 8, 1000), (3_000, 300, 4_097)])
def test_cuda_choice_is_that_of_the_matrix_which_is_not_stored(shape):
    generator = torch.Generator("cuda").manual_seed(0)
    count, length, blocks = shape
    slices = torch.randn(count, length, generator=generator, device="cuda")
    directions = torch.randn(length, blocks, generator=generator, device="cuda")
    nearest_blocks(slices, directions)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    nearest = nearest_blocks(slices, directions)
    assert torch.cuda.max_memory_allocated() - before < 8 * count + 4096
    check_near_ties(slices, directions, nearest)


@needs_triton
def test_compiles_for_devices_to_full_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for capability, length, blocks in [(80, 16, 256), (90, 3, 1000), (120, 512, 65_536)]:
        code = ptx(capability, length, blocks)
        assert "fma.rn.f32" in code
        assert "mma" not in code
        assert "tf32" not in code
        assert ".ftz" not in code
    assert [*tmp_path.iterdir()]


@needs_triton
def test_triton_is_available_where_it_is_installed():
    assert available()


def test_module_can_be_imported_without_triton(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    assert not runpy.run_path(str(triton_kernel.__file__))["available"]()
