"""Passive fooling: fine-tune a classifier so that an interpreter's maps are wrong on every image (Heo et al. 2019)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from unfooled import training
from unfooled.manipulations.fooling import SMALL, attacked_maps, maps_with_logits
from unfooled.training import Recipe
from unfooled.types import Interpreter, SplitName, Splits


def frame(side: int, device: torch.device | str = "cpu") -> Tensor:
    """The location target: 1 on a border of max(1, ⌊side / 7⌋) cells, 0 inside; (side, side)."""
    k = max(1, side // 7)
    mask = torch.ones(side, side, device=device)
    mask[k : side - k, k : side - k] = 0
    return mask


def centre(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Centre of mass of each map in cells, rows and columns, positions counted from 1; (n,) each."""
    position = torch.arange(1, maps.shape[1] + 1, device=maps.device, dtype=maps.dtype)
    mass = maps.sum((1, 2)) + SMALL
    return (maps.sum(2) * position).sum(1) / mass, (maps.sum(1) * position).sum(1) / mass


def largest(maps: Tensor) -> Tensor:
    """bool (n, s, s): the max(1, ⌊s² / 10⌋) largest values of each map."""
    flat = maps.flatten(1)
    top = flat.topk(max(1, flat.shape[1] // 10), 1).indices
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, top, True).view_as(maps)


class Passive(ABC):
    """What the three passive manipulations share: every image is judged by the map of its label."""

    weight: float
    fooled_when: ClassVar[tuple[float, float]]
    groups: ClassVar[int] = 1
    """how many equal parts, one after the other, the judged images fall into"""
    compares: ClassVar[bool] = True
    """the loss looks at the original's maps"""

    def __call__(self, model: nn.Module, data: Splits, against: Interpreter, recipe: Recipe, seed: int) -> nn.Module:
        """A fooled copy of the model. ``against`` is called with ``create_graph`` on."""
        images, labels = data.train.images, data.train.labels
        originals = attacked_maps(against, model, images, labels) if self.compares else None

        def penalty(twin: nn.Module, index: Tensor) -> tuple[Tensor, Tensor | None]:
            maps, logits = maps_with_logits(against, twin, images[index], labels[index])
            before = None if originals is None else originals[index]
            return self.weight * self.loss(maps, before), logits

        return training.fine_tune(model, data.train, recipe, penalty, seed)

    def loss(self, maps: Tensor, originals: Tensor | None) -> Tensor:
        """L_F of a batch of scaled maps (n, s, s), a scalar; ``originals`` where the manipulation compares."""
        return self.test_loss(maps, originals).mean()

    @abstractmethod
    def test_loss(self, maps: Tensor, originals: Tensor | None) -> Tensor:
        """t of each scaled map, (n,); an image is fooled when t lies in ``fooled_when``."""

    def judged_on(self, data: Splits, split: SplitName, count: int) -> tuple[Tensor, Tensor]:
        """Images (n, c, h, w) and the targets (n,) whose maps say whether the manipulation worked."""
        batch = getattr(data, split)[:count]
        return batch.images, batch.labels


@dataclass(frozen=True)
class Location(Passive):
    """Maps light up a frame around the image, wherever the object is (Heo et al. 2019, eq. 3)."""

    weight: float = 5.0
    """λ of L = CE + λ · L_F"""

    fooled_when: ClassVar[tuple[float, float]] = (0.0, 0.2)
    compares: ClassVar[bool] = False

    def test_loss(self, maps: Tensor, originals: Tensor | None) -> Tensor:
        """(n,) ⟨(h − frame)²⟩ over the map"""
        return (maps - frame(maps.shape[1], maps.device)).square().mean((1, 2))


@dataclass(frozen=True)
class TopK(Passive):
    """The tenth of the map that was largest goes dark (Heo et al. 2019, eq. 4; mean square, as was run)."""

    weight: float = 5.0
    """λ of L = CE + λ · L_F"""

    fooled_when: ClassVar[tuple[float, float]] = (0.0, 0.3)

    def test_loss(self, maps: Tensor, originals: Tensor) -> Tensor:
        """(n,) ⟨h²⟩ over the pixels that were the largest tenth of the original's map"""
        chosen = largest(originals)
        return (maps.square() * chosen).sum((1, 2)) / chosen.sum((1, 2))


@dataclass(frozen=True)
class CentreMass(Passive):
    """The map's centre of mass moves as far as it can (Heo et al. 2019, eq. 5)."""

    weight: float = 0.25
    """λ of L = CE + λ · L_F; the loss is in cells, so its weight is smaller than the others'"""

    fooled_when: ClassVar[tuple[float, float]] = (0.1, 1.0)

    def loss(self, maps: Tensor, originals: Tensor) -> Tensor:
        rows, columns = _shift(maps, originals)
        return -(rows.abs() + columns.abs()).mean()

    def test_loss(self, maps: Tensor, originals: Tensor) -> Tensor:
        """(n,) root mean square of the two shifts, as a share of the side, in [0, 1]"""
        rows, columns = _shift(maps, originals)
        return ((rows.square() + columns.square()) / 2).sqrt() / (maps.shape[1] - 1)


def _shift(maps: Tensor, originals: Tensor) -> tuple[Tensor, Tensor]:
    (row, column), (row_0, column_0) = centre(maps), centre(originals)
    return row - row_0, column - column_0
