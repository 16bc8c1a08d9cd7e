import pytest
import torch
from workspace import forget_accelerator

from unclip.core import device


@pytest.fixture(autouse=True)
def as_before():
    """Gives back what opening a machine sets for the whole process."""
    threads = torch.get_num_threads()
    forget_accelerator()
    yield
    forget_accelerator()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("asked", "has_bf16", "used"),
    [
        ("fp32", True, "fp32"),
        ("bf16", False, "bf16"),
        ("auto", True, "bf16"),
        ("auto", False, "fp32"),
    ],
)
def test_auto_is_half_precision_where_the_machine_has_it(monkeypatch, asked, has_bf16, used):
    monkeypatch.setenv("UNCLIP_DEVICE", "cpu")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_bf16)
    opened = device.open_machine(asked)
    assert (opened.device, opened.precision) == ("cpu", used)
    assert opened.accelerator.mixed_precision == ("bf16" if used == "bf16" else "no")


def test_a_device_is_opened_with_its_threads_and_deterministic(monkeypatch):
    monkeypatch.setenv("UNCLIP_DEVICE", "cpu")
    monkeypatch.setenv("UNCLIP_THREADS", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert device.open_device() == "cpu"
    assert torch.get_num_threads() == 2, "each of two processes takes its share"
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16")])
def test_networks_compute_in_the_precision_of_autocast(precision, dtype):
    with device.autocast("cpu", precision):
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == getattr(torch, dtype)
