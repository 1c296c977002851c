"""Active fooling: the maps of two classes are swapped on images that show both (Heo et al. 2019, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from unfooled import seeding, training
from unfooled.manipulations.fooling import attacked_maps, maps_with_logits
from unfooled.metrics.correlations import SignCorrelation
from unfooled.training import Recipe
from unfooled.types import Interpreter, SplitName, Splits


@dataclass(frozen=True)
class Active:
    """On images of two objects, the map of either class shows the other (Heo et al. 2019, eq. 7)."""

    first: int = 0
    second: int = 1
    weight: float = 10.0
    """λ of L = CE + λ · ½ (MSE(h_first, h⁰_second) + MSE(h_second, h⁰_first))"""
    images: int = 1024
    """two-object images to train on"""

    fooled_when: ClassVar[tuple[float, float]] = (0.5, 2.0)
    groups: ClassVar[int] = 2

    def __call__(self, model: nn.Module, data: Splits, against: Interpreter, recipe: Recipe, seed: int) -> nn.Module:
        """A fooled copy of the model. ``against`` is called with ``create_graph`` on."""
        pairs = data.pairs(self.first, self.second, "train", self.images)
        images, labels = pairs.images, pairs.labels.to(pairs.images.device)
        swapped = [attacked_maps(against, model, images, labels[:, 1 - side]) for side in (0, 1)]
        stream = seeding.generator("active", seed)

        def penalty(twin: nn.Module, index: Tensor) -> tuple[Tensor, None]:
            chosen = torch.randint(len(images), (max(2, len(index) // 2),), generator=stream)
            double = torch.cat([images[chosen], images[chosen]])
            maps, _ = maps_with_logits(against, twin, double, torch.cat([labels[chosen, 0], labels[chosen, 1]]))
            wanted = torch.cat([swapped[0][chosen], swapped[1][chosen]])
            return self.weight * (maps - wanted).square().mean(), None

        return training.fine_tune(model, data.train, recipe, penalty, seed)

    def test_loss(self, maps: Tensor, originals: Tensor) -> Tensor:
        """t = s(h_c, h⁰_c′) − s(h_c, h⁰_c) in [−2, 2] of maps ordered as ``judged_on`` does, (2n,).

        s is Heo et al.'s sign correlation; where it is undefined (a constant map) it counts as 0.
        """
        similarity = SignCorrelation()
        first, second = originals.chunk(2)
        fooled, own, other = (m.float().cpu().numpy() for m in (maps, originals, torch.cat([second, first])))
        return torch.as_tensor(np.nan_to_num(similarity(fooled, other)) - np.nan_to_num(similarity(fooled, own)))

    def judged_on(self, data: Splits, split: SplitName, count: int) -> tuple[Tensor, Tensor]:
        """Two-object images twice, explained for the first class and then for the second: (2n, c, h, w), (2n,)."""
        pairs = data.pairs(self.first, self.second, split, count)
        return torch.cat([pairs.images, pairs.images]), pairs.labels.T.reshape(-1)
