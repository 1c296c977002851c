"""Scenes, the embedded data set: one silhouette an image on photographs, with its mask, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from unfooled.datasets.backgrounds import bank, crops
from unfooled.datasets.silhouettes import SILHOUETTES, box
from unfooled.seeding import numpy_generator
from unfooled.types import Batch, DataError, Pairs, Splits, SplitName

CHUNK = 250
"""Images that share a random stream. A chunk is always drawn whole, so that a longer split only appends to a shorter."""

DISTRACTORS = 3

TILT = np.pi / 7

SPLITS: tuple[SplitName, ...] = ("train", "tune", "test")


@dataclass(frozen=True)
class Scenes:
    """RGB images in which a silhouette is the class, with object masks.

    Position, size (28 to 50 % of the side), rotation, texture and lighting vary; backgrounds and textures are crops of the
    pictures in scikit-image's wheel, from regions that train, tune and test do not share; blobs, lines and shapes cut by the
    border belong to no class. Images are rounded to 8 bits, as photographs are. Nothing is downloaded.

    Calling it gives the same bits every time; the first images of a split do not depend on how many are asked for.
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
        for split in SPLITS:
            if getattr(self, split) < 0:
                raise DataError(f"scenes: {split} is {getattr(self, split)}; a count must be 0 or more")

    def __call__(self) -> Splits:
        train, tune, test = (self._batch(split, getattr(self, split)) for split in SPLITS)
        return Splits(tuple(SILHOUETTES), train, tune, test, self.pairs)

    def pairs(self, first: int, second: int, split: SplitName, count: int) -> Pairs:
        """Images (count, 3, size, size) with one object of each class, apart from each other, each on either side.

        Raises DataError where the two classes are one, or not classes.
        """
        check_classes("scenes", first, second, tuple(SILHOUETTES))
        labels = np.tile([first, second], (CHUNK, 1))
        draw = self._draw(
            split, count, ("pairs", first, second), lambda stream: (labels, _two_places(stream, self.size))
        )
        return Pairs(*draw)

    def _batch(self, split: SplitName, count: int) -> Batch:
        images, labels, masks = self._draw(
            split, count, (), lambda stream: (_labels(stream), _place(stream, self.size))
        )
        return Batch(images, labels[:, 0], masks[:, 0])

    def _draw(self, split: SplitName, count: int, words: tuple, layout: Callable) -> tuple[torch.Tensor, ...]:
        regions, chunks = bank(split, self.size), []
        for chunk in range(max(1, -(-count // CHUNK))):
            stream = numpy_generator("scenes", self.seed, self.size, split, *words, chunk)
            labels, places = layout(stream)
            images, masks = _render(stream, regions, labels, places, self.size)
            chunks.append((images, labels.astype(np.int64), masks))
        return tuple(torch.from_numpy(np.concatenate(parts)[:count]) for parts in zip(*chunks, strict=True))


def check_classes(where: str, first: int, second: int, classes: tuple[str, ...]) -> None:
    """Raise DataError unless both are labels of ``classes`` and differ."""
    for label in (first, second):
        if not 0 <= label < len(classes):
            raise DataError(f"{where}: no class {label} for pairs; labels go from 0 to {len(classes) - 1}")
    if first == second:
        raise DataError(f"{where}: pairs of class {first} with itself; the two classes must differ")


def _uniform(stream: np.random.Generator, low: float, high: float, *shape: int) -> np.ndarray:
    return (low + (high - low) * stream.random((CHUNK, *shape))).astype(np.float32)


def _labels(stream: np.random.Generator) -> np.ndarray:
    """Every class once in each ten images, in an order of its own: (CHUNK, 1)."""
    blocks = np.tile(np.arange(len(SILHOUETTES)), (CHUNK // len(SILHOUETTES), 1))
    return stream.permuted(blocks, axis=1).reshape(CHUNK, 1)


def _place(stream: np.random.Generator, size: int) -> np.ndarray:
    """One object anywhere inside the image: (CHUNK, 1, 4) with x, y, radius in pixels and angle."""
    radius = _uniform(stream, 0.17, 0.25, 1) * size
    x, y = (radius + (size - 2 * radius) * _uniform(stream, 0, 1, 1) for _ in range(2))
    return np.stack([x, y, radius, _uniform(stream, -TILT, TILT, 1)], -1)


def _two_places(stream: np.random.Generator, size: int) -> np.ndarray:
    """Two objects, each within its own half (left and right or top and bottom, either way round): (CHUNK, 2, 4)."""
    radius = _uniform(stream, 0.17, 0.23, 2) * size
    swapped, upright = (_uniform(stream, 0, 1, 1) < 0.5 for _ in range(2))
    room = np.maximum(size / 2 - 2 * radius, 0)
    across = radius + room * _uniform(stream, 0, 1, 2) + size / 2 * (np.arange(2) ^ swapped)
    along = radius + (size - 2 * radius) * _uniform(stream, 0, 1, 2)
    x, y = np.where(upright, along, across), np.where(upright, across, along)
    return np.stack([x, y, radius, _uniform(stream, -TILT, TILT, 2)], -1).astype(np.float32)


def _frames(places: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres in the frame of an object at ``places`` (n, 4), in units of its radius: two (n, size, size)."""
    x0, y0, radius, angle = places.T[:, :, None, None]
    centres = np.arange(size, dtype=np.float32) + np.float32(0.5)
    dx, dy = centres[None, None, :] - x0, y0 - centres[None, :, None]
    # Rotation in float64 per image: numpy's float32 sine differs in the last bit from machine to machine.
    cos, sin = (f(angle.astype(np.float64)).astype(np.float32) / radius for f in (np.cos, np.sin))
    return dx * cos + dy * sin, dy * cos - dx * sin


def _coverage(distance: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """How much of each pixel lies inside, from the signed distance of its centre: (n, size, size) in [0, 1]."""
    return np.clip(np.float32(0.5) - distance * radius[:, None, None], 0, 1)


def _object_coverage(labels: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
    x, y = _frames(places, size)
    distance = np.empty_like(x)
    for label, shape in enumerate(SILHOUETTES.values()):
        rows = labels == label
        distance[rows] = shape(x[rows], y[rows])
    return _coverage(distance, places[:, 2])


def _distractor_coverage(stream: np.random.Generator, size: int, kind: int) -> np.ndarray:
    """A blob, a line or a disc cut by the border, for the first, second and third kind: (CHUNK, size, size)."""
    unit = np.float32(size)
    x, y, angle = _uniform(stream, 0, 1) * unit, _uniform(stream, 0, 1) * unit, _uniform(stream, 0, 2 * np.pi)
    radius = _uniform(stream, *((0.04, 0.07), (0.15, 0.45), (0.15, 0.3))[kind]) * unit
    if kind == 2:
        y = np.where(y < unit / 2, np.float32(-0.3), unit + np.float32(0.3) * radius)
    across, along = _frames(np.stack([x, y, radius, angle], -1), size)
    distance = box(across, along, 1, 0.05) if kind == 1 else np.hypot(across, along * np.float32(1.4)) - 1
    present = _uniform(stream, 0, 1)[:, None, None] < 0.7
    return _coverage(distance, radius) * present


def _light(stream: np.random.Generator, size: int) -> np.ndarray:
    """A brightness that falls off in one direction, with a tint: (CHUNK, size, size, 3) about 1."""
    x, y = _frames(np.stack([*np.full((3, CHUNK), size / 2, np.float32), _uniform(stream, 0, 2 * np.pi)], -1), size)
    slope = x * _uniform(stream, 0, 0.3)[:, None, None]
    return (1 + slope)[..., None] * _uniform(stream, 0.88, 1.12, 1, 1, 3)


def _paint(stream: np.random.Generator, texture: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """The texture in a colour that stands out from the ground's mean brightness: (CHUNK, size, size, 3)."""
    mean = ground.mean((1, 2, 3), keepdims=True)
    step = _uniform(stream, 0.3, 0.5, 1, 1, 1)
    room = np.where(_uniform(stream, 0, 1, 1, 1, 1) < mean, mean - step, mean + step)
    grain = (texture - texture.mean((1, 2, 3), keepdims=True)) * _uniform(stream, 0.2, 0.6, 1, 1, 1)
    tint = _uniform(stream, -0.2, 0.2, 1, 1, 3)
    return room + grain + tint - tint.mean(-1, keepdims=True)


def _render(
    stream: np.random.Generator, regions: dict[int, np.ndarray], labels: np.ndarray, places: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """One chunk: images (CHUNK, 3, size, size) and masks (CHUNK, objects, size, size) of labels (CHUNK, objects)."""
    ground, texture = (crops(regions, stream, CHUNK, size) for _ in range(2))
    canvas = ground.mean((1, 2), keepdims=True)
    canvas = canvas + (ground - canvas) * _uniform(stream, 0.2, 0.6, 1, 1, 1)
    masks = [_object_coverage(labels[:, i], places[:, i], size) for i in range(labels.shape[1])]
    for cover in [*(_distractor_coverage(stream, size, kind) for kind in range(DISTRACTORS)), *masks]:
        canvas = canvas + cover[..., None] * (_paint(stream, texture, ground) - canvas)
    lit = np.clip(canvas * _light(stream, size), 0, 1)
    images = np.round(lit * 255).astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), np.stack(masks, 1) > 0.5
