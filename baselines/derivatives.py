"""The same numbers as torch's, cheaper to differentiate: max-pooling's way back, positive parts; and memory's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Pair = int | Sequence[int]


@dataclass(frozen=True)
class MaxPool:
    """The largest value of each window, as ``torch.max_pool2d`` takes its arguments."""

    kernel_size: Pair
    stride: Pair | None = None
    padding: Pair = 0
    dilation: Pair = 1
    ceil_mode: bool = False

    def __call__(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """The largest values, and where in each channel they were."""
        return F.max_pool2d(
            a, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, return_indices=True
        )

    def transpose(self, r: Tensor, a: Tensor, winners: Tensor) -> Tensor:
        """r at the winners and 0 elsewhere, of the shape of ``a``. Differentiable once, in r."""
        return _Unpool.apply(r, a, winners, self)


class _Unpool(torch.autograd.Function):
    # By hand for its derivative. Torch's own also makes zeros of the size of what was pooled, the derivative by a, and
    # lays both out with the channels apart; all products below it would walk through two orders at once.
    @staticmethod
    def forward(ctx, r: Tensor, a: Tensor, winners: Tensor, pool: MaxPool) -> Tensor:
        ctx.save_for_backward(winners)
        sizes = [pair(x) for x in (pool.kernel_size, pool.stride or pool.kernel_size, pool.padding, pool.dilation)]
        return torch.ops.aten.max_pool2d_with_indices_backward(r, a, *sizes, pool.ceil_mode, winners)

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor) -> tuple[Tensor, None, None, None]:
        (winners,) = ctx.saved_tensors
        by_r = g.flatten(-2).gather(-1, winners.flatten(-2)).view(winners.shape)
        return by_r.contiguous(memory_format=layout(winners)), None, None, None


class _Rectified(torch.autograd.Function):
    # By hand for its derivative, one pass where torch takes two, one of them not vectorised.
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        kind = torch.finfo(x.dtype)
        below_zero = -kind.smallest_normal * kind.eps  # the negative number next to 0: what is above it is ≥ 0
        return torch.ops.aten.threshold_backward(g, x, below_zero)


def rectified(x: Tensor) -> Tensor:
    """x⁺. Its derivative at 0 is 1, as clamp's is and ReLU's is not. Differentiable once."""
    return _Rectified.apply(x)


def pair(size: Pair) -> tuple[int, int]:
    """A size for both sides of an image, as torch takes one number or several."""
    return (size, size) if isinstance(size, int) else (size[0], size[-1])


def layout(x: Tensor) -> torch.memory_format:
    """channels_last where the tensor lies so, the usual order where not."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
