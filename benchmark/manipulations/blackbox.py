"""Fooling an interpreter that offers no gradient: an evolution strategy guided by interpreters that do.

An antithetic evolution strategy (Salimans et al. 2017, 1703.03864) learns from calls of the interpreter alone how its
fooling loss L_F changes along a few directions of the weights. A random one out of a hundred thousand says next to
nothing, so most of them are the gradients of the same loss for *surrogates*, differentiable interpreters of other
kinds, on the very images (guided evolution strategies, Maheswaranathan et al. 2019, 1806.10230): the queries decide
which of them to follow, how far, or against. The rest of the objective, cross-entropy and distillation, is no secret of
the interpreter's: its gradient is exact, so predictions are kept as in every other twin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unfooled import plugins, seeding, training
from unfooled.manipulations.fooling import attacked_maps, maps_with_logits
from unfooled.manipulations.passive import Passive
from unfooled.training import Recipe
from unfooled.types import Batch, Interpreter, Part

Direction = list[Tensor]
"""one tensor a parameter, of norm 1 all together"""

SURROGATES = ("simple_grad", "grad_cam", "occlusion")
"""one of each kind: gradients, activations, hidden parts"""


def surrogates(side: int) -> list[Interpreter]:
    """The surrogates for images of this side, attackable. Occlusion by nine large patches: ten passes a map."""
    hidden = {"occlusion": {"patch": max(1, 3 * side // 8), "stride": max(1, 5 * side // 16)}}
    parts = [Part(name, {"create_graph": True, **hidden.get(name, {})}) for name in SURROGATES]
    return [plugins.build("interpreters", part) for part in parts]


@dataclass(frozen=True)
class Effort:
    """What an attack by queries may spend; a query is one call of the interpreter on a minibatch."""

    random: int = 1
    """random directions in one step of the recipe, beside those of the surrogates"""
    images: int = 12
    """images in one query"""
    spread: float = 0.003
    """how far a query looks to either side, as a share of the norm of all weights"""

    def queries(self, steps: int) -> int:
        """The budget of a whole fine-tuning: two queries a direction and step."""
        return 2 * (len(SURROGATES) + self.random) * steps


@dataclass(frozen=True)
class Target:
    """A loss of the maps of one interpreter on the images of a pool."""

    manipulation: Passive
    interpreter: Interpreter
    pool: Batch
    originals: Tensor
    """scaled maps (n, s, s) of the original; empty where the manipulation does not look at them"""

    @classmethod
    def of(cls, manipulation: Passive, interpreter: Interpreter, pool: Batch, original: nn.Module) -> Target:
        """With the original's maps where they are needed."""
        maps = (
            attacked_maps(interpreter, original, pool.images, pool.labels) if manipulation.compares else torch.empty(0)
        )
        return cls(manipulation, interpreter, pool, maps)

    def loss(self, twin: nn.Module, some: Tensor) -> Tensor:
        """L_F of the chosen images, with whatever graph the interpreter makes."""
        maps, _ = maps_with_logits(self.interpreter, twin, self.pool.images[some], self.pool.labels[some])
        return self.manipulation.loss(maps, self.originals[some] if len(self.originals) else maps)

    def slope(self, twin: nn.Module, some: Tensor) -> list[Tensor]:
        """∂L_F/∂w, one tensor a parameter; 0 where the maps do not depend on it."""
        weights = list(twin.parameters())
        found = torch.autograd.grad(self.loss(twin, some), weights, allow_unused=True)
        return [torch.zeros_like(w) if f is None else f for w, f in zip(weights, found, strict=True)]


def fool(target: Target, original: nn.Module, train: Batch, recipe: Recipe, seed: int, effort: Effort) -> nn.Module:
    """A copy of the original after the recipe on CE + distillation + weight · L_F, L_F by queries of ``target`` alone.

    Spends ``effort.queries(recipe.steps)`` queries.
    """
    stream = seeding.generator("blackbox", seed)
    kinds = surrogates(train.images.shape[-1])
    guides = [Target.of(target.manipulation, kind, target.pool, original) for kind in kinds]

    def penalty(twin: nn.Module, index: Tensor) -> tuple[Tensor, None]:
        some = torch.randint(len(target.pool), (min(effort.images, len(target.pool)),), generator=stream)
        noise = int(torch.randint(2**62, (), generator=stream))
        weights = list(twin.parameters())
        ways = [unit(guide.slope(twin, some)) for guide in guides]
        ways += [unit([torch.randn(w.shape, generator=stream).to(w) for w in weights]) for _ in range(effort.random)]

        def query() -> float:
            # Common random numbers: within a step every query sees the same images under the same noise.
            with seeding.forked("query", noise):
                return target.loss(twin, some).item()

        slopes = estimate(query, weights, ways, effort.spread)
        # A product whose gradient is the estimate: so it meets the recipe's optimiser as any fooling loss does.
        surrogate = sum((weight * slope).sum() for weight, slope in zip(weights, slopes, strict=True))
        return target.manipulation.weight * surrogate, None

    return training.fine_tune(original, train, recipe, penalty, seed)


def unit(way: list[Tensor]) -> Direction:
    """The same direction with norm 1; zeros, and whatever is not finite, stay zeros."""
    norm = torch.stack([w.square().sum() for w in way]).sum().sqrt()
    return [(w / norm).nan_to_num(0, 0, 0) for w in way]


@torch.no_grad()
def estimate(loss: Callable[[], float], weights: list[Tensor], ways: list[Direction], spread: float) -> list[Tensor]:
    """The part of ∇loss within the span of the ways, one tensor a weight, from two calls a way; weights are put back.

    Σ_j (L(w + σd_j) − L(w − σd_j)) / (2σ) · d_j with σ = spread · ‖w‖: for orthonormal d_j the projected gradient,
    up to O(σ²). A way whose loss is not finite counts as flat.
    """
    before = [w.clone() for w in weights]
    sigma = spread * torch.stack([w.square().sum() for w in weights]).sum().sqrt().item()
    slopes = [torch.zeros_like(w) for w in weights]
    for way in ways:
        ends = [_moved(loss, weights, before, way, by) for by in (sigma, -sigma)]
        rise = torch.tensor((ends[0] - ends[1]) / (2 * sigma)).nan_to_num(0, 0, 0).item()
        for slope, one in zip(slopes, way, strict=True):
            slope.add_(one, alpha=rise)
    return slopes


def _moved(loss: Callable[[], float], weights: list[Tensor], before: list[Tensor], way: Direction, by: float) -> float:
    """The loss with the weights moved along the way; they are put back exactly."""
    for weight, old, one in zip(weights, before, way, strict=True):
        weight.copy_(old + by * one)
    try:
        return loss()
    finally:
        for weight, old in zip(weights, before, strict=True):
            weight.copy_(old)
