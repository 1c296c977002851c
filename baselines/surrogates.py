"""LIME and KernelSHAP: a linear model of the network, fitted on which pieces of the image are shown."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import ClassVar

import torch
from torch import Tensor, nn

from unfooled.baselines import segments as cutting
from unfooled.baselines import settings
from unfooled.baselines.masking import MaskOf, filled, scores_under_masks
from unfooled.baselines.segments import Segmentation
from unfooled.types import Family

Coalitions = tuple[Tensor, Tensor]
"""float64 (m, pieces) of 1 (shown) and 0 (hidden), and the weight (m,) of each in the regression"""


@dataclass(frozen=True)
class LIME:
    """Weights of a local ridge regression of the target's logit on shown pieces (Ribeiro et al. 2016). (n, 1, h, w).

    Random coalitions z ∈ {0, 1}^M (each piece shown with probability ½, the first coalition shows all), proximity
    √exp(−d²/κ²) with d the cosine distance of z to the whole image, ridge penalty α, the intercept free: the settings
    of the authors' image explainer. Every pixel carries the weight of its piece. Coalitions are drawn once a call and
    serve all images that are cut into as many pieces, so a map does not depend on the batch. Linear in the model's
    outputs.
    """

    segments: Segmentation = "grid"
    side: int = 4
    """pieces along each side of the image; ``slic`` aims at side², ``quickshift`` ignores it"""
    samples: int = 128
    kernel_width: float = 0.25
    """κ"""
    alpha: float = 1.0
    """ridge penalty; 0 is plain least squares"""
    fill: float | None = None
    """what a hidden pixel shows; None is the mean colour of its piece"""
    chunk: int = 64
    create_graph: bool = False

    family: ClassVar[Family] = "perturbation"
    signed: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        cutting.check(self)
        settings.whole(self, "samples", least=2)
        settings.whole(self, "chunk")
        settings.number(self, "alpha", least=0)
        settings.number(self, "kernel_width", above=0)
        if self.fill is not None:
            settings.number(self, "fill")

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return _explain(self, model, inputs, targets)

    def coalitions(self, pieces: int, generator: torch.Generator) -> Coalitions:
        """``samples`` random ones, the first of all pieces, each weighted by its proximity to that one."""
        shown = torch.randint(2, (self.samples, pieces), generator=generator).double()
        shown[0] = 1
        distance = 1 - shown.mean(1).sqrt()
        return shown, torch.exp(-0.5 * (distance / self.kernel_width) ** 2)

    def fit(self, shown: Tensor, weights: Tensor, scores: Tensor) -> Tensor:
        """Ridge coefficients (n, pieces) for scores (n, samples); one factorisation for all images."""
        shares = weights / weights.sum()
        centred = shown - shares @ shown
        weighted = centred.T * weights
        penalty = self.alpha * torch.eye(shown.shape[1]).to(shown)
        return (scores - scores @ shares[:, None]) @ (torch.linalg.pinv(weighted @ centred + penalty) @ weighted).T


@dataclass(frozen=True)
class KernelSHAP:
    """Shapley values of the image's pieces, by weighted least squares (Lundberg & Lee 2017, theorem 2). (n, 1, h, w).

    Kernel (M−1) / (C(M, s) · s · (M−s)) for coalitions of s of M pieces; the values of an image sum to
    f_y(image) − f_y(everything hidden), exactly. Sizes are taken in pairs (s, M−s) from the outside in: completely
    where the budget allows (with 2^M ≤ samples all of them, and the values are exact), the rest is sampled by the
    kernel, in pairs of a coalition and its complement (Covert & Lee 2021). Every pixel carries the value of its piece.
    Coalitions are shared as in LIME. Linear in the model's outputs.
    """

    segments: Segmentation = "grid"
    side: int = 4
    """pieces along each side of the image; ``slic`` aims at side², ``quickshift`` ignores it"""
    samples: int = 128
    """coalitions asked, the empty and the full one included"""
    fill: float | None = 0.5
    """what a hidden pixel shows; None is the mean colour of its piece"""
    chunk: int = 64
    create_graph: bool = False

    family: ClassVar[Family] = "perturbation"
    signed: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        cutting.check(self)
        settings.whole(self, "samples", least=4)
        settings.whole(self, "chunk")
        if self.fill is not None:
            settings.number(self, "fill")

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return _explain(self, model, inputs, targets)

    def coalitions(self, pieces: int, generator: torch.Generator) -> Coalitions:
        """At most ``samples``; the empty and the full one come first, and their weight is not used."""
        drawn = [(torch.tensor([[0.0], [1.0]]).double().expand(2, pieces), torch.zeros(2).double())]
        sizes, budget = list(range(1, pieces // 2 + 1)), self.samples - 2
        while sizes and (whole := _both_sizes(pieces, sizes[0])) <= budget:
            drawn.append(_all_of_size(pieces, sizes.pop(0)))
            budget -= whole
        if sizes and budget >= 2:
            drawn.append(_sampled(pieces, sizes, budget // 2, generator))
        shown, weights = zip(*drawn, strict=True)
        return torch.cat(shown), torch.cat(weights)

    def fit(self, shown: Tensor, weights: Tensor, scores: Tensor) -> Tensor:
        """Shapley values (n, pieces) for scores (n, samples); one factorisation for all images.

        With φ = Δ/M + Nψ, N an orthonormal basis of what sums to 0, the constraint Σφ = Δ holds by construction.
        Too few coalitions for a unique answer give the shortest ψ.
        """
        z, root = shown[2:], weights[2:].sqrt()
        pieces = z.shape[1]
        basis = _sums_to_zero(pieces).to(z)
        total = scores[:, 1:2] - scores[:, :1]
        rest = scores[:, 2:] - scores[:, :1] - total * z.mean(1)
        return total / pieces + (rest * root) @ (basis @ torch.linalg.pinv((z @ basis) * root[:, None])).T


def _explain(method: LIME | KernelSHAP, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Cut, ask, fit, paint: all images with as many pieces at once. (n, 1, h, w)"""
    images = inputs if method.create_graph else inputs.detach()
    pieces = cutting.segment(images, method.segments, method.side)
    hidden = cutting.means(images, pieces) if method.fill is None else filled(images, method.fill)
    counts = pieces.flatten(1).amax(1) + 1
    seed = int(torch.randint(2**62, ()))
    maps, order = [], []
    for count in counts.unique().tolist():
        some = (counts == count).nonzero()[:, 0]
        shown, weights = (t.to(images.device) for t in method.coalitions(count, _stream(seed, count)))
        scores = scores_under_masks(
            model,
            images[some],
            targets[some],
            hidden[some],
            _by_piece(shown.to(images.dtype), pieces[some]),
            len(shown),
            method.chunk,
            method.create_graph,
        )
        maps.append(method.fit(shown, weights, scores.double()).gather(1, pieces[some].flatten(1)))
        order.append(some)
    return torch.cat(maps)[torch.cat(order).argsort()].to(images.dtype).view_as(images[:, :1])


def _stream(seed: int, count: int) -> torch.Generator:
    """A stream for this number of pieces: what other images of the batch are cut into changes nothing."""
    return torch.Generator().manual_seed(seed + count)


def _by_piece(shown: Tensor, pieces: Tensor) -> MaskOf:
    """Mask j of image i shows the pieces of coalition j, where image i has them."""
    flat, (height, width) = pieces.flatten(1), pieces.shape[1:]
    return lambda image, mask: shown[mask].gather(1, flat[image]).view(-1, 1, height, width)


def _mass(pieces: int, size: int) -> float:
    """Kernel mass of all coalitions of this size."""
    return (pieces - 1) / (size * (pieces - size))


def _both_sizes(pieces: int, size: int) -> int:
    """How many coalitions have this size or leave this size out."""
    return comb(pieces, size) * (1 if 2 * size == pieces else 2)


def _all_of_size(pieces: int, size: int) -> Coalitions:
    members = torch.tensor(list(combinations(range(pieces), size)))
    shown = torch.zeros(len(members), pieces).double().scatter_(1, members, 1)
    if 2 * size < pieces:
        shown = torch.cat([shown, 1 - shown])
    return shown, shown.new_full((len(shown),), _mass(pieces, size) / comb(pieces, size))


def _sampled(pieces: int, sizes: list[int], pairs: int, generator: torch.Generator) -> Coalitions:
    mass = torch.tensor([_mass(pieces, s) * (1 if 2 * s == pieces else 2) for s in sizes]).double()
    drawn = torch.tensor(sizes)[torch.multinomial(mass, pairs, replacement=True, generator=generator)]
    ranks = torch.rand(pairs, pieces, generator=generator).argsort(1).argsort(1)
    shown = (ranks < drawn[:, None]).double()
    shown = torch.cat([shown, 1 - shown])
    return shown, shown.new_full((len(shown),), float(mass.sum()) / len(shown))


def _sums_to_zero(pieces: int) -> Tensor:
    """Orthonormal basis (pieces, pieces - 1) of the vectors whose entries sum to 0."""
    return torch.linalg.qr(torch.cat([torch.ones(pieces, 1), torch.eye(pieces)[:, 1:]], 1).double())[0][:, 1:]
