"""Rules of layer-wise relevance propagation: what each input of a layer receives of the relevance of its output.

Notation: a the input of a layer, w and b its weights and bias, z its output, R the relevance of the output; ⁺ and ⁻
positive and negative parts. All rules are differentiable in a, w, b, z and R.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Part = Callable[[Tensor], Tensor]


def stabilised(z: Tensor, epsilon: float) -> Tensor:
    """z moved away from zero by ε, by its own sign (zero counts as positive)."""
    return z + torch.copysign(torch.full((), epsilon, dtype=z.dtype, device=z.device), z.detach())


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


Affine = Dense | Conv
AffineRule = Callable[[Affine, Tensor, Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(layer, R, z, a, w, b) → relevance of a"""


@dataclass(frozen=True)
class Epsilon:
    """R_i = a_i Σ_j w_ij R_j / (z_j + ε sgn z_j) (Bach et al. 2015, eq. 58)."""

    epsilon: float

    def __call__(self, layer: Affine, r: Tensor, z: Tensor, a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return a * layer.transpose(r / stabilised(z, self.epsilon), w, a)


@dataclass(frozen=True)
class ZPlus:
    """R_i = a_i⁺ Σ_j w_ij⁺ s_j + a_i⁻ Σ_j w_ij⁻ s_j with s = R / z⁺ and z⁺ = a⁺w⁺ + a⁻w⁻ + bias (αβ, α = 1, β = 0)."""

    epsilon: float
    bias: Part = positive
    """what of the bias counts in z⁺: its positive part (Montavon et al. 2017), or all of it (Heo et al. 2019)"""

    def __call__(self, layer: Affine, r: Tensor, z: Tensor, a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        s = r / stabilised(_raising(layer, a, w, b, self.bias), self.epsilon)
        return _shares(layer, s, a, w, positive, negative)


@dataclass(frozen=True)
class AlphaBeta:
    """α times the share in the positive contributions less β times that in the negative ones (Bach et al. 2015, eq. 60)."""

    alpha: float
    beta: float
    epsilon: float

    def __call__(self, layer: Affine, r: Tensor, z: Tensor, a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        raising = _raising(layer, a, w, b, positive)
        # All contributions sum to z, so what is left is the lowering ones; the clamp holds off rounding above zero.
        lowering = (z - raising).clamp(max=0)
        up = _shares(layer, self.alpha * r / stabilised(raising, self.epsilon), a, w, positive, negative)
        down = _shares(layer, self.beta * r / stabilised(lowering, self.epsilon), a, w, negative, positive)
        return up - down


@dataclass(frozen=True)
class Flat:
    """R shared equally by all inputs that an output sees (Lapuschkin et al. 2019)."""

    epsilon: float

    def __call__(self, layer: Affine, r: Tensor, z: Tensor, a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        ones = torch.ones_like(w)
        seen = layer(torch.ones_like(a[:1]), ones)
        return layer.transpose(r / stabilised(seen, self.epsilon), ones, a)


def _below_zero(a: Tensor) -> bool:
    # After a ReLU there are no negative inputs, and half of the work falls away.
    return bool(a.detach().amin() < 0)


def _raising(layer: Affine, a: Tensor, w: Tensor, b: Tensor | None, bias: Part) -> Tensor:
    z = layer(positive(a), positive(w), None if b is None else bias(b))
    return z + layer(negative(a), negative(w)) if _below_zero(a) else z


def _shares(layer: Affine, s: Tensor, a: Tensor, w: Tensor, with_positive: Part, with_negative: Part) -> Tensor:
    """Σ_j s_j times the contributions a_i⁺ with one part of the weights and a_i⁻ with the other."""
    shares = positive(a) * layer.transpose(s, with_positive(w), a)
    return shares + negative(a) * layer.transpose(s, with_negative(w), a) if _below_zero(a) else shares


@dataclass(frozen=True)
class Proportional:
    """Sums and averages: R shared by what each term brings, R_i = part(a_i) R / (Σ part(a) + ε sgn)."""

    epsilon: float
    part: Part = whole
    """whole: by the terms themselves (the ε rule); positive: by their positive parts (Heo et al. 2019)"""

    def of_sum(self, r: Tensor, z: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The relevance of both terms of z = a + b."""
        terms = self.part(a), self.part(b)
        s = r / stabilised(sum(terms), self.epsilon)
        return terms[0] * s, terms[1] * s

    def of_average(self, average: Callable[[Tensor], Tensor], r: Tensor, a: Tensor) -> Tensor:
        """The relevance of a, of which ``average``, a linear operation with positive weights, was taken."""
        term = self.part(a)
        return term * _transpose(average, term, r / stabilised(average(term), self.epsilon))


def _transpose(operation: Callable[[Tensor], Tensor], like: Tensor, s: Tensor) -> Tensor:
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        x = like.detach().requires_grad_()
        (answer,) = torch.autograd.grad(operation(x), x, s, create_graph=create_graph)
    return answer
