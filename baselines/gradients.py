"""Interpreters that are the gradient of a logit, or averages of it along the way from somewhere else."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from unfooled.baselines import settings
from unfooled.baselines.hooks import Place, activation_at_target, declared, leaf, target_logits
from unfooled.baselines.passes import accumulate, image_streams
from unfooled.baselines.slopes import Slopes
from unfooled.types import Family


def input_gradient(model: nn.Module, inputs: Tensor, targets: Tensor, create_graph: bool) -> Tensor:
    """∂f_y/∂x at the inputs, (n, c, h, w)."""
    x, source = leaf(inputs, create_graph)
    with Slopes(create_graph, source) as slopes:
        logits = target_logits(model, x, targets)
    return slopes.gradient(logits, x)


@dataclass(frozen=True)
class SimpleGrad:
    """The gradient of the target's logit (Simonyan et al. 2013, 1312.6034).

    At the input: ∂f_y/∂x, signed, (n, c, h, w). At T: Σ_k 2 |∂f_y/∂A^k| ≥ 0, (n, 1, s, s), the SimpleG_T of Heo et al.
    (2019), before their scaling to [0, 1].
    """

    at: Place = "input"
    create_graph: bool = False

    family: ClassVar[Family] = "gradients"
    stochastic: ClassVar[bool] = False

    signed = declared(lambda self: self.at == "input")

    def __post_init__(self) -> None:
        settings.one_of(self, "at", Place)

    @torch.enable_grad()
    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        if self.at == "input":
            return input_gradient(model, inputs, targets, self.create_graph)
        with activation_at_target(model, self.create_graph) as captured, Slopes(self.create_graph) as slopes:
            logits = target_logits(model, inputs, targets)
        return 2 * slopes.gradient(logits, captured.activation).abs().sum(1, keepdim=True)


@dataclass(frozen=True)
class InputXGradient:
    """x ⊙ ∂f_y/∂x (Shrikumar et al. 2016, 1605.01713): signed, (n, c, h, w). Zero wherever the image is black."""

    create_graph: bool = False

    at: ClassVar[str] = "input"
    family: ClassVar[Family] = "gradients"
    signed: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    @torch.enable_grad()
    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        maps = inputs * input_gradient(model, inputs, targets, self.create_graph)
        return maps if self.create_graph else maps.detach()


@functools.cache
def gauss_legendre(steps: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Points in (0, 1) and weights that sum to 1: exact for polynomials of degree 2 · steps − 1."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    return tuple((points + 1) / 2), tuple(weights / 2)


@dataclass(frozen=True)
class IntegratedGradients:
    """(x − x̄) ⊙ ∫₀¹ ∂f_y(x̄ + t (x − x̄))/∂x dt (Sundararajan et al. 2017, 1703.01365): signed, (n, c, h, w).

    By Gauss–Legendre quadrature. The maps sum to f_y(x) − f_y(x̄) as far as ``steps`` resolve the path. Memory is
    bounded by ``chunk`` images (with ``create_graph`` the graph of all steps is kept).
    """

    steps: int = 32
    baseline: float = 0.0
    """x̄: every pixel and channel, in [0, 1]; 0 is black"""
    chunk: int = 64
    """images in one pass of the model; the result does not depend on it"""
    create_graph: bool = False

    at: ClassVar[str] = "input"
    family: ClassVar[Family] = "gradients"
    signed: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        settings.whole(self, "steps", "chunk")
        settings.number(self, "baseline")

    @torch.enable_grad()
    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        points, weights = (inputs.new_tensor(v)[:, None, None, None] for v in gauss_legendre(self.steps))
        path = inputs - self.baseline

        def slopes(image: Tensor, step: Tensor) -> Tensor:
            position = self.baseline + points[step] * path[image]
            return weights[step] * input_gradient(model, position, targets[image], self.create_graph)

        maps = path * accumulate(slopes, inputs, self.steps, self.chunk)
        return maps if self.create_graph else maps.detach()


def plain_colours(shape: torch.Size, stream: torch.Generator) -> Tensor:
    """A baseline (c, h, w) of one random colour, uniform in [0, 1]."""
    return torch.rand(shape[0], 1, 1, generator=stream).expand(shape)


@dataclass(frozen=True)
class ExpectedGradients:
    """E over x̄ and t ~ U(0, 1) of (x − x̄) ⊙ ∂f_y(x̄ + t (x − x̄))/∂x (Erion et al. 2021, 1906.10670; GradientSHAP).

    Signed, (n, c, h, w). An interpreter sees no data set, so baselines are by default plain images of a random colour,
    which favours no colour as "absent"; ``background`` may draw others. Draws of an image depend on torch's global seed
    and on the image alone, as SmoothGrad's do. Memory is bounded by ``chunk`` images (with ``create_graph`` the graph
    of all samples is kept).
    """

    samples: int = 16
    background: Callable[[torch.Size, torch.Generator], Tensor] | None = None
    """(shape (c, h, w), random stream) → one baseline (c, h, w); None: plain_colours"""
    chunk: int = 64
    """images in one pass of the model; the result does not depend on it"""
    create_graph: bool = False

    at: ClassVar[str] = "input"
    family: ClassVar[Family] = "gradients"
    signed: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        settings.whole(self, "samples", "chunk")
        if self.background is not None and not callable(self.background):
            settings.refuse(self, "background", "a function of shape and stream, or None")

    @torch.enable_grad()
    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        streams = image_streams(inputs)

        def slopes(image: Tensor, sample: Tensor) -> Tensor:
            draws = [self._draw(inputs.shape[1:], streams[i]) for i in image.tolist()]
            baselines, times = (torch.stack(d).to(inputs) for d in zip(*draws, strict=True))
            path = inputs[image] - baselines
            position = baselines + times * path
            return path * input_gradient(model, position, targets[image], self.create_graph)

        maps = accumulate(slopes, inputs, self.samples, self.chunk) / self.samples
        return maps if self.create_graph else maps.detach()

    def _draw(self, shape: torch.Size, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        return (self.background or plain_colours)(shape, stream), torch.rand(1, 1, 1, generator=stream)
