"""Interpreters that hide parts of the image and watch the target's logit. LIME and KernelSHAP: see surrogates."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unfooled.baselines import settings
from unfooled.baselines.masking import blur, filled, scores_under_masks, shared
from unfooled.types import Family


@dataclass(frozen=True)
class Occlusion:
    """How far the target's logit falls when a patch is covered (Zeiler & Fergus 2014). Shape (n, 1, h, w), signed.

    A pixel's value is the mean of f_y(x) − f_y(covered) over the patches that cover it, all channels at once: Captum's
    convention. Patches start at 0, stride, 2·stride, …; the last is cut off by the border. 50 forward passes by
    default, whatever the size. Pixels under no patch (stride above patch) are 0. Linear in the model's outputs.
    """

    patch: int | None = None
    """side in pixels; None is a quarter of each side of the image: 8 at 32 × 32"""
    stride: int | None = None
    """None is half of the patch: 4 at 32 × 32"""
    fill: float = 0.5
    """what a covered pixel shows"""
    chunk: int = 64
    create_graph: bool = False

    family: ClassVar[Family] = "perturbation"
    signed: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        settings.whole(self, "chunk", *(n for n in ("patch", "stride") if getattr(self, n) is not None))
        settings.number(self, "fill")

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        covers = self._covers(*inputs.shape[2:]).to(inputs)
        masks = torch.cat([torch.ones_like(covers[:1]), 1 - covers])
        hidden = filled(inputs, self.fill)
        scores = scores_under_masks(
            model, inputs, targets, hidden, shared(masks), len(masks), self.chunk, self.create_graph
        )
        falls = (scores[:, :1] - scores[:, 1:]) @ covers.flatten(1)
        return (falls / covers.sum(0).flatten().clamp(min=1)).view_as(inputs[:, :1])

    def _covers(self, height: int, width: int) -> Tensor:
        """(patches, h, w), 1 where the patch lies."""
        rows, columns = self._strips(height), self._strips(width)
        return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)

    def _strips(self, side: int) -> Tensor:
        patch = min(self.patch or max(1, round(side / 4)), side)
        stride = self.stride or max(1, patch // 2)
        starts = stride * torch.arange(ceil((side - patch) / stride) + 1)[:, None]
        at = torch.arange(side)
        return (at >= starts) & (at < starts + patch)


Estimator = Literal["ratio", "paper"]


@dataclass(frozen=True)
class RISE:
    """Expected target logit given that a pixel is shown (Petsiuk et al. 2018, eq. 2). Shape (n, 1, h, w), signed.

    Masks: a coarse grid of cells, each shown with a probability, enlarged bilinearly by one cell and cropped at a
    random shift. They are drawn once a call and serve all images. Linear in the model's outputs.
    """

    masks: int = 128
    grid: int = 8
    """cells along each side"""
    probability: float = 0.5
    fill: float = 0.5
    """what a hidden pixel shows; the authors' code masks normalised images, and so fills with the mean colour"""
    estimator: Estimator = "ratio"
    """``paper``: Σ f·M / (masks · probability), eq. 6. ``ratio``: Σ f·M / Σ M, the same in the limit, but adding a
    constant to the logits adds a constant to the map, where eq. 6 would add the noise of the masks, the same for all
    models"""
    chunk: int = 64
    create_graph: bool = False

    family: ClassVar[Family] = "perturbation"
    signed: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        settings.whole(self, "masks", "grid", "chunk")
        settings.number(self, "probability", above=0, below=1)
        settings.number(self, "fill")
        settings.one_of(self, "estimator", Estimator)

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        masks = self.draw(*inputs.shape[2:]).to(inputs)
        hidden = filled(inputs, self.fill)
        scores = scores_under_masks(
            model, inputs, targets, hidden, shared(masks), self.masks, self.chunk, self.create_graph
        )
        expected = self.masks * self.probability
        shown = masks.sum(0).flatten().clamp(min=1e-6) if self.estimator == "ratio" else expected
        return (scores @ masks.flatten(1) / shown).view_as(inputs[:, :1])

    def draw(self, height: int, width: int) -> Tensor:
        """Masks (masks, h, w) in [0, 1] from torch's global stream."""
        cells = (torch.rand(self.masks, 1, self.grid, self.grid) < self.probability).float()
        cell = ceil(height / self.grid), ceil(width / self.grid)
        large = F.interpolate(cells, [(self.grid + 1) * c for c in cell], mode="bilinear", align_corners=False)[:, 0]
        down, right = (torch.randint(c, (self.masks, 1, 1)) for c in cell)
        mask, row, column = (torch.arange(s) for s in (self.masks, height, width))
        return large[mask[:, None, None], down + row[:, None], right + column]


@dataclass(frozen=True)
class MeaningfulPerturbation:
    """The smallest smooth region whose blurring lowers the target's logit (Fong & Vedaldi 2017). (n, 1, h, w), ≥ 0.

    A mask m ∈ [0, 1] on a coarse grid is learnt per image by Adam: it minimises
    E_τ f_y(Φ(x(·−τ); m)) / |f_y(x) − f_y(blurred x)| + area · ⟨1 − m⟩ + smoothness · ⟨|∇m|^β⟩ with
    Φ = m·x + (1−m)·blur(x); the map is 1 − m. The paper uses the softmax output; its gradient vanishes for a sure
    network, so the logit is used here, in units of its own fall, and means take the place of sums so that the weights
    hold at any size. Not attackable: the map is the end of an optimisation. One forward and backward pass a step.
    """

    steps: int = 100
    """the paper takes 300 for a finer mask; at 32 × 32 the map is the same after 100"""
    rate: float = 0.1
    grid: int = 8
    """mask cells along each side"""
    area: float = 1.0
    smoothness: float = 1.0
    power: float = 3.0
    """β"""
    blur: float = 1 / 8
    """standard deviation, as a share of the height, of the blur that hides"""
    jitter: float = 1 / 56
    """largest shift τ, as a share of the height; drawn once a step for all images"""

    family: ClassVar[Family] = "perturbation"
    signed: ClassVar[bool] = False
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        settings.whole(self, "steps")
        settings.whole(self, "grid", least=2)
        settings.number(self, "rate", above=0)
        settings.number(self, "area", "smoothness", "blur", "jitter", least=0)
        settings.number(self, "power", least=1)  # below it a flat mask has no derivative

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        images, hidden = inputs.detach(), blur(inputs.detach(), self.blur * inputs.shape[2])
        scale = self._fall(model, images, hidden, targets)
        cells = images.new_ones(len(images), 1, self.grid, self.grid)
        with torch.enable_grad():
            cells.requires_grad_()
            adam = torch.optim.Adam([cells], self.rate)
            for shift in self._shifts(images.shape[2]):
                shown = torch.lerp(
                    hidden.roll(shift, (2, 3)), images.roll(shift, (2, 3)), self._enlarged(cells, images)
                )
                fallen = model(shown).gather(1, targets[:, None])[:, 0] / scale
                (cells.grad,) = torch.autograd.grad((fallen + self._price(cells)).sum(), cells)
                adam.step()
                cells.data.clamp_(0, 1)
        return 1 - self._enlarged(cells.detach(), images)

    def _fall(self, model: nn.Module, images: Tensor, hidden: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            seen, unseen = (model(x).gather(1, targets[:, None])[:, 0] for x in (images, hidden))
        return (seen - unseen).abs().clamp(min=1e-6)

    def _shifts(self, height: int) -> list[list[int]]:
        most = round(self.jitter * height)
        return torch.randint(-most, most + 1, (self.steps, 2)).tolist()

    def _enlarged(self, cells: Tensor, images: Tensor) -> Tensor:
        mask = F.interpolate(cells, images.shape[2:], mode="bilinear", align_corners=False)
        return blur(mask, 5 / 224 * images.shape[2])

    def _price(self, cells: Tensor) -> Tensor:
        rough = (cells.diff(dim=d).abs().pow(self.power).flatten(1).mean(1) for d in (2, 3))
        return self.area * (1 - cells).flatten(1).mean(1) + self.smoothness * sum(rough)
