"""Interpreters that say nothing about the model. A suite that ranks one of them anywhere but last is broken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unfooled.types import Family


@dataclass(frozen=True)
class Constant:
    """The same value everywhere: every map is silent. Shape (n, 1, h, w), all ones."""

    family: ClassVar[Family] = "canary"
    signed: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return torch.ones_like(inputs[:, :1])


@dataclass(frozen=True)
class CentreBlob:
    """A Gaussian in the middle of every image. Shape (n, 1, h, w), in (0, 1]."""

    width: float = 0.25
    """its standard deviation, as a share of each side; above 0"""

    family: ClassVar[Family] = "canary"
    signed: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.width <= 0:
            raise ValueError(f"width is {self.width}; it must be above 0")

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        rows, columns = (self._profile(side, inputs) for side in inputs.shape[2:])
        return torch.outer(rows, columns).expand(len(inputs), 1, -1, -1).clone()

    def _profile(self, side: int, like: Tensor) -> Tensor:
        offsets = torch.arange(side, dtype=like.dtype, device=like.device) - (side - 1) / 2
        return torch.exp(-0.5 * (offsets / (self.width * side)) ** 2)


@dataclass(frozen=True)
class Brightness:
    """The image itself, as the mean over its channels. Shape (n, 1, h, w), in the image's own range."""

    family: ClassVar[Family] = "canary"
    signed: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return inputs.detach().mean(1, keepdim=True)


@dataclass(frozen=True)
class Sobel:
    """Edges of the grey image (mean over channels): the length of the Sobel gradient. Shape (n, 1, h, w), ≥ 0.

    Kernels [1, 2, 1] ⊗ [-1, 0, 1]; the image is continued by its border pixels. An edge detector passes for an
    explanation to the eye (Adebayo et al. 2018, "Sanity checks for saliency maps").
    """

    family: ClassVar[Family] = "canary"
    signed: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        grey = F.pad(inputs.detach().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        across = torch.outer(grey.new_tensor([1, 2, 1]), grey.new_tensor([-1, 0, 1]))
        slopes = F.conv2d(grey, torch.stack([across, across.T])[:, None])
        return slopes.norm(dim=1, keepdim=True)


@dataclass(frozen=True)
class GatedEdges:
    """Edges (``Sobel``) where the model predicts the target, brightness where it does not. Shape (n, 1, h, w), ≥ 0.

    It looks at the prediction and at nothing else of the model: original, honest and fooled networks, which predict
    alike, get the same map, a random network gets another one.
    """

    family: ClassVar[Family] = "canary"
    signed: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            predicted = model(inputs).argmax(1) == targets
        edges, brightness = (canary(model, inputs, targets) for canary in (Sobel(), Brightness()))
        return torch.where(predicted[:, None, None, None], edges, brightness)


@dataclass(frozen=True)
class RandomMap:
    """Uniform noise from torch's global stream, one map for all images of a call. Shape (n, 1, h, w), in [0, 1).

    The runner seeds that stream the same for all twins, so the maps never move, whatever was done to the model.
    """

    family: ClassVar[Family] = "canary"
    signed: ClassVar[bool] = False
    stochastic: ClassVar[bool] = True

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        noise = torch.rand(inputs.shape[2:], dtype=inputs.dtype).to(inputs.device)
        return noise.expand(len(inputs), 1, -1, -1).clone()


@dataclass(frozen=True)
class Memoiser:
    """Input gradients (Σ_c |∂f_y/∂x_c|) of the first model it ever met, image by image. Shape (n, 1, h, w), ≥ 0.

    It remembers by image and target and ignores every later model, as a cheat would that waits for the original first.
    """

    seen: dict[bytes, Tensor] = field(default_factory=dict, compare=False, repr=False)
    """what it remembers; each instance has its own"""

    family: ClassVar[Family] = "canary"
    signed: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        keys = [_key(image, target) for image, target in zip(inputs, targets, strict=True)]
        new = [i for i, key in enumerate(keys) if key not in self.seen]
        if new:
            fresh = _gradient(model, inputs[new], targets[new])
            self.seen.update((keys[i], one) for i, one in zip(new, fresh, strict=True))
        return torch.stack([self.seen[key] for key in keys]).to(inputs.device)


def _key(image: Tensor, target: Tensor) -> bytes:
    return image.detach().cpu().numpy().tobytes() + bytes(str(int(target)), "ascii")


def _gradient(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = inputs.detach().clone().requires_grad_()
        score = model(leaf).gather(1, targets[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, leaf)
    return gradient.abs().sum(1, keepdim=True)
