"""Class activation maps: the activation at T, weighed by what the target's logit says of it.

A is the activation at T, the *input* of the model's target layer, as Heo et al. (2019) have it; k counts its channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unfooled.baselines import settings
from unfooled.baselines.hooks import Captured, activation_at_target, leaf, target_logits
from unfooled.baselines.passes import accumulate
from unfooled.baselines.slopes import Guided, Slopes
from unfooled.types import Family


class _AboveT(Slopes):
    """Slopes that end at T: what lies below is computed as ever, which spares an attack some of each training step."""

    def __init__(self, create_graph: bool, captured: Captured):
        super().__init__(create_graph)
        self.captured = captured

    def __torch_function__(
        self, operation: Callable, types: object, args: tuple = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        if self.captured.at is None:
            return operation(*args, **(kwargs or {}))
        return super().__torch_function__(operation, types, args, kwargs)


class _GradientCAM:
    """ReLU(Σ_k weights ⊙ A^k), (n, 1, s, s) at T's resolution, ≥ 0, not scaled."""

    at: ClassVar[str] = "input"
    family: ClassVar[Family] = "activations"
    signed: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False
    create_graph: bool

    @torch.enable_grad()
    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        with activation_at_target(model, self.create_graph) as captured, _AboveT(self.create_graph, captured) as slopes:
            logits = target_logits(model, inputs, targets)
        activation = captured.activation
        weights = self.weights(activation, slopes.gradient(logits, activation))
        cam = (weights * activation).sum(1, keepdim=True).relu()
        return cam if self.create_graph else cam.detach()

    def weights(self, activation: Tensor, slopes: Tensor) -> Tensor:
        """What multiplies A^k, from A and ∂f_y/∂A: (n, k, s, s) or (n, k, 1, 1)."""
        raise NotImplementedError


@dataclass(frozen=True)
class GradCAM(_GradientCAM):
    """Grad-CAM (Selvaraju et al. 2017, 1610.02391): ReLU(Σ_k α_k A^k), α_k the spatial mean of ∂f_y/∂A^k.

    (n, 1, s, s) at T's resolution, ≥ 0, not scaled; zero where no weighted sum is positive.
    """

    create_graph: bool = False

    scaling: ClassVar[str] = "max"
    """Heo et al. divide it by its largest value, without subtracting the least"""

    def weights(self, activation: Tensor, slopes: Tensor) -> Tensor:
        return slopes.mean((2, 3), keepdim=True)


@dataclass(frozen=True)
class GradCAMPlusPlus(_GradientCAM):
    """Grad-CAM++ (Chattopadhyay et al. 2018, 1710.11063), with exp(f_y) as the score, for which α has a closed form.

    With g = ∂f_y/∂A^k: α = g² / (2 g² + g³ Σ_ab A^k_ab + 1e-6), weights Σ_ij α ReLU(g). (n, 1, s, s) at T's resolution,
    ≥ 0, not scaled.
    """

    create_graph: bool = False

    def weights(self, activation: Tensor, slopes: Tensor) -> Tensor:
        square = slopes.square()
        below = 2 * square + square * slopes * activation.sum((2, 3), keepdim=True) + 1e-6
        return (square / below * slopes.relu()).sum((2, 3), keepdim=True)


@dataclass(frozen=True)
class LayerCAM(_GradientCAM):
    """LayerCAM (Jiang et al. 2021): ReLU(Σ_k ReLU(∂f_y/∂A^k) ⊙ A^k), (n, 1, s, s), ≥ 0, not scaled."""

    create_graph: bool = False

    def weights(self, activation: Tensor, slopes: Tensor) -> Tensor:
        return slopes.relu()


@dataclass(frozen=True)
class ScoreCAM:
    """Score-CAM (Wang et al. 2020, 1910.01279): ReLU(Σ_k α_k A^k), α the softmax over k of f_y(x ⊙ M^k).

    M^k is A^k scaled to [0, 1] and resized to the image (bilinear); a constant channel gives a black mask. No gradient
    is needed. (n, 1, s, s) at T's resolution, ≥ 0, not scaled. One pass of the model for every channel; memory is
    bounded by ``chunk`` images (with ``create_graph`` the graph of all passes is kept).
    """

    chunk: int = 64
    """masked images in one pass of the model; the result does not depend on it"""
    create_graph: bool = False

    at: ClassVar[str] = "input"
    family: ClassVar[Family] = "activations"
    signed: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        settings.whole(self, "chunk")

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.create_graph):
            with activation_at_target(model, self.create_graph) as captured:
                model(inputs)
            activation = captured.activation if self.create_graph else captured.activation.detach()
            scores = self._scores(model, inputs, targets, activation)
            return (scores.softmax(1)[:, :, None, None] * activation).sum(1, keepdim=True).relu()

    def _scores(self, model: nn.Module, inputs: Tensor, targets: Tensor, activation: Tensor) -> Tensor:
        """(n, k): the target's logit of each image under each channel's mask."""
        low, high = activation.amin((2, 3), keepdim=True), activation.amax((2, 3), keepdim=True)
        masks = (activation - low) / (high - low + 1e-8)
        channels = activation.shape[1]

        def score(image: Tensor, channel: Tensor) -> Tensor:
            mask = F.interpolate(masks[image, channel][:, None], size=inputs.shape[2:], mode="bilinear")
            logits = target_logits(model, inputs[image] * mask, targets[image])
            return logits[:, None] * F.one_hot(channel, channels)

        return accumulate(score, inputs, channels, self.chunk)


@dataclass(frozen=True)
class GuidedGradCAM:
    """Guided Grad-CAM (Selvaraju et al. 2017): guided backpropagation ⊙ Grad-CAM resized to the image (bilinear).

    Signed, (n, c, h, w). One forward pass and two back.
    """

    create_graph: bool = False

    at: ClassVar[str] = "input"
    family: ClassVar[Family] = "activations"
    signed: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    @torch.enable_grad()
    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        x, _ = leaf(inputs, self.create_graph)
        with activation_at_target(model, keep_graph=True) as captured, Guided(self.create_graph) as guided:
            logits = target_logits(model, x, targets)
        activation = captured.activation
        (slopes,) = torch.autograd.grad(logits.sum(), activation, retain_graph=True, create_graph=self.create_graph)
        cam = (slopes.mean((2, 3), keepdim=True) * activation).sum(1, keepdim=True).relu()
        resized = F.interpolate(cam, size=inputs.shape[2:], mode="bilinear")
        maps = guided.gradient(logits, x) * resized
        return maps if self.create_graph else maps.detach()
