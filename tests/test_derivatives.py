"""Operations with a cheaper way back: values and derivatives are torch's own, to the bit."""

from __future__ import annotations

import ctypes

import pytest
import torch
from torch.nn import functional as F

from unfooled import parallel
from unfooled.baselines.derivatives import MaxPool, layout, rectified

POOLS = {
    "plain": {"kernel_size": 2},
    "overlapping": {"kernel_size": 3, "stride": 2, "padding": 1},
    "not square": {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0)},
    "dilated": {"kernel_size": 2, "stride": 3, "dilation": 2},
    "to the edge": {"kernel_size": 3, "stride": 2, "ceil_mode": True},
}
SHAPES = {"images": (2, 3, 10, 9), "one image": (3, 10, 9)}


def laid(x: torch.Tensor, order: torch.memory_format) -> torch.Tensor:
    return x.contiguous(memory_format=order) if x.dim() == 4 else x


@pytest.mark.parametrize("options", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=["plain", "channels last"])
def test_the_way_back_of_max_pooling_is_torchs(options, shape, order):
    torch.manual_seed(0)
    a = laid(torch.randn(shape), order).requires_grad_()
    pool = MaxPool(**options)
    largest, winners = pool(a)
    assert torch.equal(largest, F.max_pool2d(a, **options))
    r = torch.randn_like(largest).requires_grad_()
    weight = torch.randn_like(a)

    (torchs,) = torch.autograd.grad(F.max_pool2d(a, **options), a, r, create_graph=True)
    (by_torch,) = torch.autograd.grad((torchs * weight).sum(), r)
    ours = pool.transpose(r, a, winners)
    (by_us,) = torch.autograd.grad((ours * weight).sum(), r)

    assert torch.equal(ours, torchs)
    assert torch.equal(by_us, by_torch)
    assert by_us.stride() == r.stride(), "the derivative lies in memory as what it belongs to"


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_positive_parts_have_clamps_derivative_at_and_beside_zero(kind):
    """Where ReLU's would be 0. The numbers next to zero are where a threshold could slip."""
    next_to_zero = torch.finfo(kind).smallest_normal * torch.finfo(kind).eps
    x = torch.tensor([-1.0, -next_to_zero, -0.0, 0.0, next_to_zero, 1.0], dtype=kind).requires_grad_()
    (wanted,) = torch.autograd.grad(x.clamp(min=0).sum(), x)
    (ours,) = torch.autograd.grad(rectified(x).sum(), x)
    assert wanted.tolist() == [0, 0, 1, 1, 1, 1]
    assert torch.equal(ours, wanted)
    assert torch.equal(rectified(x), x.clamp(min=0))


def test_an_order_in_memory_is_told():
    x = torch.zeros(2, 3, 4, 5)
    assert layout(x) is layout(x[0]) is torch.contiguous_format
    assert layout(x.contiguous(memory_format=torch.channels_last)) is torch.channels_last


@pytest.mark.parametrize("missing", [OSError, AttributeError, TypeError])
def test_work_goes_on_where_the_c_library_takes_no_advice(missing, monkeypatch):
    def none(_: object) -> None:
        raise missing

    monkeypatch.setattr(ctypes, "CDLL", none)
    threads = torch.get_num_threads()
    with parallel.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads
