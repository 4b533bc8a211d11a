"""Where and how to compute."""

import threading

import pytest
import torch

from crumb.device import choose_device, cores, lone_workers, return_memory
from crumb.errors import InputError


def test_auto_is_a_device_of_this_machine():
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cpu:0", "cuda:99", "cuda:x", "mps"])
def test_another_device_is_refused(name):
    with pytest.raises(InputError, match=f"device='{name}'.*give cpu or auto"):
        choose_device(name)


def test_tf32_needs_a_gpu():
    with pytest.raises(InputError, match="precision='tf32'"):
        choose_device("cpu", "tf32")
    assert choose_device("cpu", "bf16") == "cpu"


def test_workers_compute_alone_and_others_as_before(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        pool = lone_workers(2, "worker")
        assert {pool.submit(torch.get_num_threads).result() for _ in range(8)} == {1}
        assert torch.get_num_threads() == 3
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert found == [3]
    finally:
        torch.set_num_threads(before)


def test_memory_is_returned_where_that_can_be_done(monkeypatch):
    return_memory()
    monkeypatch.setattr("crumb.device.ctypes.CDLL", lambda _: object())
    return_memory()


def test_at_least_one_core():
    assert cores() >= 1
