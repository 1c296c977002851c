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

from unfooled.types import UnfooledError

Part = Callable[[Tensor], Tensor]
Pair = int | tuple[int, int]


def stabilised(z: Tensor, epsilon: float) -> Tensor:
    """z moved away from zero by ε, by its own sign (zero counts as positive)."""
    return z + torch.copysign(torch.full((), epsilon, dtype=z.dtype, device=z.device), z.detach())


class _Share(torch.autograd.Function):
    # s = r / d, with a derivative that reuses d and s: three passes over memory where autograd takes six.
    @staticmethod
    def forward(ctx, r: Tensor, z: Tensor, epsilon: float) -> Tensor:
        d = stabilised(z, epsilon)
        s = r / d
        ctx.save_for_backward(d, s)
        return s

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor) -> tuple[Tensor, Tensor, None]:
        d, s = ctx.saved_tensors
        by_r = g / d
        return by_r, (by_r * s).neg_(), None


def share(r: Tensor, z: Tensor, epsilon: float) -> Tensor:
    """s = R / (z + ε sgn z): the relevance of an output per unit of what made it. Differentiable once."""
    return _Share.apply(r, z, epsilon)


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
        spread = _pair(dilation)
        return cls(_pair(stride), _padding(padding, weight, spread), spread, groups)

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


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _padding(padding: Pair | str, weight: Tensor, dilation: tuple[int, int]) -> tuple[int, int]:
    if padding == "valid":
        return 0, 0
    if padding != "same":
        return _pair(padding)
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
        return a * layer.transpose(share(r, z, self.epsilon), w, a)


@dataclass(frozen=True)
class ZPlus:
    """R_i = a_i⁺ Σ_j w_ij⁺ s_j + a_i⁻ Σ_j w_ij⁻ s_j with s = R / z⁺ and z⁺ = a⁺w⁺ + a⁻w⁻ + bias (αβ, α = 1, β = 0)."""

    epsilon: float
    bias: Part = positive
    """what of the bias counts in z⁺: its positive part (Montavon et al. 2017), or all of it (Heo et al. 2019)"""

    def __call__(self, layer: Affine, r: Tensor, z: Tensor, a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        raising = Contributions.of(layer, a, w, positive, negative)
        return raising.shares(share(r, raising.total(b, self.bias), self.epsilon))


@dataclass(frozen=True)
class AlphaBeta:
    """α times the share in the positive contributions less β times that in the negative (Bach et al. 2015, eq. 60)."""

    alpha: float
    beta: float
    epsilon: float

    def __call__(self, layer: Affine, r: Tensor, z: Tensor, a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        raising = Contributions.of(layer, a, w, positive, negative)
        up = raising.total(b, positive)
        # All contributions sum to z, so what is left is the lowering ones; the clamp holds off rounding above zero.
        down = (z - up).clamp(max=0)
        lowering = Contributions.of(layer, a, w, negative, positive)
        gain, loss = share(r, up, self.epsilon), share(r, down, self.epsilon)
        return self.alpha * raising.shares(gain) - self.beta * lowering.shares(loss)


@dataclass(frozen=True)
class Flat:
    """R shared equally by all inputs that an output sees (Lapuschkin et al. 2019)."""

    epsilon: float

    def __call__(self, layer: Affine, r: Tensor, z: Tensor, a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        ones = torch.ones_like(w)
        seen = layer(torch.ones_like(a[:1]), ones)
        return layer.transpose(r / stabilised(seen, self.epsilon), ones, a)


@dataclass(frozen=True)
class Contributions:
    """The products a_i w_ij that raise an output, or that lower it: a⁺ with one part of w and a⁻ with the other."""

    layer: Affine
    terms: tuple[tuple[Tensor, Tensor], ...]
    """inputs and weights whose products they are"""
    like: Tensor
    """the input a"""

    @classmethod
    def of(cls, layer: Affine, a: Tensor, w: Tensor, with_positive: Part, with_negative: Part) -> Contributions:
        if a.detach().amin() >= 0:  # as after every ReLU: half of the work falls away
            return cls(layer, ((a, with_positive(w)),), a)
        terms = (positive(a), with_positive(w)), (negative(a), with_negative(w))
        if getattr(layer, "groups", 1) == 1:  # one pass over twice the channels is faster than two passes
            terms = (tuple(torch.cat(both, 1) for both in zip(*terms, strict=True)),)
        return cls(layer, terms, a)

    def total(self, b: Tensor | None, bias: Part) -> Tensor:
        """Their sum at each output, with that part of the bias."""
        (a, w), *rest = self.terms
        z = self.layer(a, w, None if b is None else bias(b))
        for a, w in rest:
            z = z + self.layer(a, w)
        return z

    def shares(self, s: Tensor) -> Tensor:
        """Σ_j s_j a_i w_ij for each input i."""
        products = [a * self.layer.transpose(s, w, a) for a, w in self.terms]
        if products[0].shape != self.like.shape:
            products = products[0].chunk(2, 1)
        return products[0] if len(products) == 1 else products[0] + products[1]


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
