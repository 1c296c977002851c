"""Scenes, the embedded data set: one silhouette an image on photographs, with its mask, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch

from unfooled.datasets.backgrounds import bank
from unfooled.datasets.rendering import CHUNK, render, uniform
from unfooled.datasets.silhouettes import SILHOUETTES
from unfooled.seeding import numpy_generator
from unfooled.types import Batch, DataError, Pairs, SplitName, Splits

TILT = np.pi / 9
"""An object turns by at most this, either way: a square stays a square, and no class becomes another."""

Layout = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""A chunk's stream → labels (CHUNK, objects) and places (CHUNK, objects, 4), as ``render`` takes them."""


@dataclass(frozen=True)
class Scenes:
    """RGB images in which the silhouette of an object is the class, with the object's mask.

    Position, size (36 to 52 % of the side), rotation, texture and lighting vary; backgrounds and textures are crops of
    the pictures in scikit-image's wheel, from regions that train, tune and test do not share; blobs, lines and ellipses
    cut by the border belong to no class. Images are rounded to 8 bits, as photographs are. Nothing is downloaded.

    Calling it gives the same bits every time, and the first images of a split do not depend on how many are asked for.
    Raises DataError for a size outside [16, 64] or a negative count.
    """

    seed: int = 0
    train: int = 6000
    tune: int = 1000
    test: int = 1000
    size: int = 32

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 64:
            raise DataError(f"scenes: size is {self.size}; it must lie between 16 and 64")
        for split in get_args(SplitName):
            if getattr(self, split) < 0:
                raise DataError(f"scenes: {split} is {getattr(self, split)}; a count must be 0 or more")

    def __call__(self) -> Splits:
        train, tune, test = (self._batch(split, getattr(self, split)) for split in get_args(SplitName))
        return Splits(tuple(SILHOUETTES), train, tune, test, self.pairs)

    def pairs(self, first: int, second: int, split: SplitName, count: int) -> Pairs:
        """Images with one object of each class, side by side or one above the other, either way round.

        Raises DataError where the two classes are one, or not classes.
        """
        check_classes("scenes", first, second, len(SILHOUETTES))
        labels = np.tile([first, second], (CHUNK, 1))
        layout = lambda stream: (labels, _two_places(stream, self.size))  # noqa: E731
        return Pairs(*self._draw(split, count, layout, "pairs", first, second))

    def _batch(self, split: SplitName, count: int) -> Batch:
        images, labels, masks = self._draw(split, count, lambda stream: (_labels(stream), _place(stream, self.size)))
        return Batch(images, labels[:, 0], masks[:, 0])

    def _draw(self, split: SplitName, count: int, layout: Layout, *words: object) -> tuple[torch.Tensor, ...]:
        """Images, labels and masks of whole chunks, cut to ``count``; the words name the stream."""
        regions, chunks = bank(split, self.size), []
        for chunk in range(max(1, -(-count // CHUNK))):
            stream = numpy_generator("scenes", self.seed, self.size, split, *words, chunk)
            labels, places = layout(stream)
            images, masks = render(stream, regions, labels, places, self.size)
            chunks.append((images, labels.astype(np.int64), masks))
        return tuple(torch.from_numpy(np.concatenate(parts)[:count]) for parts in zip(*chunks, strict=True))


def check_classes(where: str, first: int, second: int, classes: int) -> None:
    """Raise DataError unless both are labels below ``classes`` and differ."""
    for label in (first, second):
        if not 0 <= label < classes:
            raise DataError(f"{where}: no class {label} for pairs; labels go from 0 to {classes - 1}")
    if first == second:
        raise DataError(f"{where}: pairs of class {first} with itself; the two classes must differ")


def _labels(stream: np.random.Generator) -> np.ndarray:
    """Every class once in each ten images, in an order of its own: (CHUNK, 1)."""
    blocks = np.tile(np.arange(len(SILHOUETTES)), (CHUNK // len(SILHOUETTES), 1))
    return stream.permuted(blocks, axis=1).reshape(CHUNK, 1)


def _place(stream: np.random.Generator, size: int) -> np.ndarray:
    """One object anywhere inside the image: (CHUNK, 1, 4)."""
    radius = uniform(stream, 0.18, 0.26, 1) * size
    x, y = (radius + (size - 2 * radius) * uniform(stream, 0, 1, 1) for _ in range(2))
    return np.stack([x, y, radius, uniform(stream, -TILT, TILT, 1)], -1)


def _two_places(stream: np.random.Generator, size: int) -> np.ndarray:
    """Two objects, each within its own half (left and right or top and bottom, either way round): (CHUNK, 2, 4)."""
    radius = uniform(stream, 0.18, 0.24, 2) * size
    swapped, upright = (uniform(stream, 0, 1, 1) < 0.5 for _ in range(2))
    across = radius + (size / 2 - 2 * radius) * uniform(stream, 0, 1, 2) + size / 2 * (np.arange(2) ^ swapped)
    along = radius + (size - 2 * radius) * uniform(stream, 0, 1, 2)
    x, y = np.where(upright, along, across), np.where(upright, across, along)
    return np.stack([x, y, radius, uniform(stream, -TILT, TILT, 2)], -1).astype(np.float32)
