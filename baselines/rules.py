"""Rules of layer-wise relevance propagation: what each input of a layer receives of the relevance of its output.

Notation: a the input of a layer, w and b its weights and bias, z its output, R the relevance of the output; ⁺ and ⁻
positive and negative parts. All rules are differentiable in a, w, b, z and R.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from unfooled.baselines.derivatives import Pair, pair
from unfooled.types import UnfooledError

Part = Callable[[Tensor], Tensor]


def _away_from_zero(z: Tensor, epsilon: float) -> Tensor:
    """z moved by ε, by its own sign (zero counts as positive); a new tensor."""
    return torch.copysign(torch.full((), epsilon, dtype=z.dtype, device=z.device), z).add_(z)


class _Share(torch.autograd.Function):
    # By hand for its memory: one new tensor where torch makes three, and a derivative that reuses what is there.
    @staticmethod
    def forward(ctx, r: Tensor, z: Tensor, epsilon: float, one_sign: bool) -> Tensor:
        d = z + epsilon if one_sign else _away_from_zero(z, epsilon)
        if not any(ctx.needs_input_grad):
            return torch.div(r, d, out=d)
        s = r / d
        ctx.save_for_backward(d, s)
        return s

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d, s = ctx.saved_tensors
        by_r = g / d
        return by_r, (by_r * s).neg_(), None, None


def share(r: Tensor, z: Tensor, epsilon: float, one_sign: bool = False) -> Tensor:
    """R / (z + ε sgn z): the relevance of an output per unit of what made it. Differentiable once.

    With ``one_sign`` all of z is known to have the sign of ε, which is then added as it is.
    """
    return _Share.apply(r, z, epsilon, one_sign)


def positive(x: Tensor) -> Tensor:
    """x⁺"""
    return x.clamp(min=0)


def negative(x: Tensor) -> Tensor:
    """x⁻ ≤ 0"""
    return x.clamp(max=0)


def whole(x: Tensor) -> Tensor:
    """x as it is"""
    return x


def doubled(x: Tensor) -> Tensor:
    """2 x, the bias as the released code of Heo et al. (2019) counts it"""
    return 2 * x


@dataclass(frozen=True)
class Dense:
    """z = a wᵀ + b."""

    groups = 1

    def __call__(self, a: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return F.linear(a, w, b)

    def transpose(self, s: Tensor, w: Tensor, like: Tensor) -> Tensor:
        """Σ_j w_ij s_j, of the shape of ``like``."""
        return s @ w


@dataclass(frozen=True)
class Conv:
    """z = a ∗ w + b."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @classmethod
    def of(cls, weight: Tensor, stride: Pair, padding: Pair | str, dilation: Pair, groups: int) -> Conv:
        """From the arguments of ``torch.conv2d``. Raises UnfooledError for 'same' with an even kernel."""
        spread = pair(dilation)
        return cls(pair(stride), _padding(padding, weight, spread), spread, groups)

    def __call__(self, a: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return F.conv2d(a, w, b, self.stride, self.padding, self.dilation, self.groups)

    def transpose(self, s: Tensor, w: Tensor, like: Tensor) -> Tensor:
        """Σ_j w_ij s_j, of the shape of ``like``.

        By conv_transpose2d and not by the gradient of conv2d: the same numbers, but its own derivative is faster.
        """
        reach = [
            (s.shape[2 + i] - 1) * self.stride[i] - 2 * self.padding[i] + self.dilation[i] * (w.shape[2 + i] - 1) + 1
            for i in (0, 1)
        ]
        extra = (like.shape[2] - reach[0], like.shape[3] - reach[1])
        return F.conv_transpose2d(s, w, None, self.stride, self.padding, extra, self.groups, self.dilation)


def _padding(padding: Pair | str, weight: Tensor, dilation: tuple[int, int]) -> tuple[int, int]:
    if padding == "valid":
        return 0, 0
    if padding != "same":
        return pair(padding)
    if any(k % 2 == 0 for k in weight.shape[2:]):
        raise UnfooledError("relevance: no rule for padding 'same' with an even kernel; pad by a number")
    return dilation[0] * (weight.shape[2] // 2), dilation[1] * (weight.shape[3] // 2)


Affine = Dense | Conv
AffineRule = Callable[[Affine, Tensor, Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(layer, R, z, a, w, b) → relevance of a"""


@dataclass(frozen=True)
class Epsilon:
    """R_i = a_i Σ_j w_ij R_j / (z_j + ε sgn z_j) (Bach et al. 2015, eq. 58)."""

    epsilon: float

    def __call__(self, layer: Affine, r: Tensor, z: Tensor, a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return _times(layer.transpose(share(r, z, self.epsilon), w, a), a)


@dataclass(frozen=True)
class ZPlus:
    """R_i = a_i⁺ Σ_j w_ij⁺ s_j + a_i⁻ Σ_j w_ij⁻ s_j with s = R / z⁺ and z⁺ = a⁺w⁺ + a⁻w⁻ + bias (αβ, α = 1, β = 0)."""

    epsilon: float
    bias: Part = positive
    """what of the bias counts in z⁺: its positive part (Montavon et al. 2017), or all of it (Heo et al. 2019)"""

    def __call__(self, layer: Affine, r: Tensor, z: Tensor, a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        split = Split.of(layer, a)
        raising = split.weights(positive(w), negative(w))
        total = split.total(raising, None if b is None else self.bias(b))
        return split.shares(share(r, total, self.epsilon, self.bias is positive), raising)


@dataclass(frozen=True)
class AlphaBeta:
    """α times the share in the positive contributions less β times that in the negative (Bach et al. 2015, eq. 60)."""

    alpha: float
    beta: float
    epsilon: float

    def __call__(self, layer: Affine, r: Tensor, z: Tensor, a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        split, up, down = Split.of(layer, a), positive(w), negative(w)
        raising, lowering = split.weights(up, down), split.weights(self.beta * down, self.beta * up)
        total = split.total(raising, None if b is None else positive(b))
        gain = share(r, total, self.epsilon, one_sign=True)
        # All contributions sum to z, so what is left is the lowering ones; the clamp holds off rounding above zero.
        loss = share(r, (z - total).clamp_(max=0), -self.epsilon, one_sign=True)
        raising = tuple(self.alpha * w for w in raising)
        if layer.groups > 1:
            return split.shares(gain, raising) - split.shares(loss, lowering)
        both = tuple(torch.cat([up, -down]) for up, down in zip(raising, lowering, strict=True))
        return split.shares(torch.cat([gain, loss], 1), both)


@dataclass(frozen=True)
class Flat:
    """R shared equally by all inputs that an output sees (Lapuschkin et al. 2019)."""

    epsilon: float

    def __call__(self, layer: Affine, r: Tensor, z: Tensor, a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        ones = torch.ones_like(w)
        seen = layer(torch.ones_like(a[:1]), ones)
        return layer.transpose(r / (seen + self.epsilon), ones, a)


@dataclass(frozen=True)
class Split:
    """A layer's input as a⁺ and a⁻, to be met by different weights."""

    layer: Affine
    a: Tensor
    parts: tuple[Tensor, ...]
    """a alone where it is not negative; else a⁺ and a⁻, as one tensor of twice the channels where weights allow"""

    @classmethod
    def of(cls, layer: Affine, a: Tensor) -> Split:
        if a.detach().amin() >= 0:  # as after every ReLU: half of the work falls away
            return cls(layer, a, (a,))
        parts = positive(a), negative(a)
        return cls(layer, a, parts if layer.groups > 1 else (torch.cat(parts, 1),))

    def weights(self, with_positive: Tensor, with_negative: Tensor) -> tuple[Tensor, ...]:
        """The weights that each part meets."""
        if self.parts[0] is self.a:
            return (with_positive,)
        both = with_positive, with_negative
        return both if len(self.parts) == 2 else (torch.cat(both, 1),)

    def total(self, weights: tuple[Tensor, ...], b: Tensor | None) -> Tensor:
        """Σ_i a_i w_ij + b_j at each output."""
        total = self.layer(self.parts[0], weights[0], b)
        return total + self.layer(self.parts[1], weights[1]) if len(weights) == 2 else total

    def shares(self, s: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
        """a_i Σ_j w_ij s_j at each input."""
        shares = [_times(self.layer.transpose(s, w, part), part) for part, w in zip(self.parts, weights, strict=True)]
        if shares[0].shape != self.a.shape:
            shares = shares[0].chunk(2, 1)
        return shares[0] if len(shares) == 1 else shares[0] + shares[1]


def _times(fresh: Tensor, a: Tensor) -> Tensor:
    """fresh ⊙ a, in the memory of ``fresh`` where no derivative will ask for it."""
    return fresh * a if torch.is_grad_enabled() else fresh.mul_(a)


@dataclass(frozen=True)
class Proportional:
    """Sums and averages: R shared by what each term brings, R_i = part(a_i) R / (Σ part(a) + ε sgn)."""

    epsilon: float
    part: Part = whole
    """whole: by the terms themselves (the ε rule); positive: by their positive parts (Heo et al. 2019)"""

    def of_sum(self, r: Tensor, z: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The relevance of both terms of z = a + b."""
        first, second = self.part(a), self.part(b)
        s = share(r, first + second, self.epsilon)
        return first * s, second * s

    def of_average(self, average: Callable[[Tensor], Tensor], r: Tensor, a: Tensor) -> Tensor:
        """The relevance of a, of which ``average``, a linear operation with positive weights, was taken."""
        term = self.part(a)
        return term * _transpose(average, term, share(r, average(term), self.epsilon))


def _transpose(operation: Callable[[Tensor], Tensor], like: Tensor, s: Tensor) -> Tensor:
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        x = like.detach().requires_grad_()
        (answer,) = torch.autograd.grad(operation(x), x, s, create_graph=create_graph)
    return answer
